# One environment; dev, staging and prod differ in their tfvars only.
locals {
  name = "imagewright-${var.stage}"
}

module "network" {
  source        = "../modules/network"
  name          = local.name
  project       = var.project
  region        = var.region
  node_range    = var.ranges.nodes
  pod_range     = var.ranges.pods
  service_range = var.ranges.services
}

module "cluster" {
  source              = "../modules/cluster"
  name                = local.name
  project             = var.project
  location            = var.cluster_location
  network_id          = module.network.network_id
  subnetwork_id       = module.network.subnetwork_id
  release_channel     = var.release_channel
  deletion_protection = var.deletion_protection
  api_server_ranges   = var.api_server_ranges
  platform_nodes      = var.platform_nodes
}

module "gpu_node_pool" {
  source                = "../modules/gpu_node_pool"
  for_each              = var.gpu_pools
  name                  = each.key
  project               = var.project
  cluster_id            = module.cluster.cluster_id
  location              = var.cluster_location
  zones                 = each.value.zones
  machine_type          = each.value.machine_type
  accelerator           = each.value.accelerator
  accelerators_per_node = each.value.accelerators_per_node
  min_nodes             = each.value.min_nodes
  max_nodes             = each.value.max_nodes
  spot                  = each.value.spot
  disk_size_gb          = each.value.disk_size_gb
  local_ssds            = each.value.local_ssds
  compact_placement     = each.value.compact_placement
  node_service_account  = module.cluster.node_service_account
}

module "buckets" {
  source                 = "../modules/buckets"
  name                   = var.bucket
  account_prefix         = local.name
  project                = var.project
  location               = var.region
  noncurrent_days        = var.bucket_retention.noncurrent_days
  soft_delete_days       = var.bucket_retention.soft_delete_days
  incomplete_upload_days = var.bucket_retention.incomplete_upload_days
}

module "image_registry" {
  source        = "../modules/image_registry"
  name          = local.name
  project       = var.project
  region        = var.region
  untagged_days = var.untagged_image_days
}

module "launcher_identity" {
  source             = "../modules/workload_identity"
  name               = "${local.name}-launch"
  project            = var.project
  namespace          = var.namespace
  kubernetes_account = var.launcher_account
  roles              = var.launcher_roles
  depends_on         = [module.cluster]
}
