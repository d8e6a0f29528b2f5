# One pool of GPU nodes that scales to zero. Labels and taints are those of the chart's queue flavours.
resource "google_container_node_pool" "this" {
  name           = var.name
  project        = var.project
  cluster        = var.cluster_id
  location       = var.location
  node_locations = var.zones

  initial_node_count = 0

  autoscaling {
    total_min_node_count = var.min_nodes
    total_max_node_count = var.max_nodes
    location_policy      = var.spot ? "ANY" : "BALANCED"
  }

  node_config {
    machine_type    = var.machine_type
    spot            = var.spot
    service_account = var.node_service_account
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    disk_size_gb    = var.disk_size_gb
    disk_type       = "pd-ssd"
    labels          = { pool = var.name }

    guest_accelerator {
      type  = var.accelerator
      count = var.accelerators_per_node

      gpu_driver_installation_config {
        gpu_driver_version = "DEFAULT"
      }
    }

    dynamic "ephemeral_storage_local_ssd_config" {
      for_each = var.local_ssds > 0 ? [var.local_ssds] : []
      content {
        local_ssd_count = ephemeral_storage_local_ssd_config.value
      }
    }

    taint {
      key    = "nvidia.com/gpu"
      value  = "present"
      effect = "NO_SCHEDULE"
    }

    dynamic "taint" {
      for_each = var.spot ? ["true"] : []
      content {
        key    = "spot"
        value  = taint.value
        effect = "NO_SCHEDULE"
      }
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  dynamic "placement_policy" {
    for_each = var.compact_placement ? ["COMPACT"] : []
    content {
      type = placement_policy.value
    }
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }
}
