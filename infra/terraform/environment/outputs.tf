output "cluster_name" {
  description = "Name for `gcloud container clusters get-credentials`."
  value       = module.cluster.cluster_name
}

output "image_repository" {
  description = "Prefix of image names."
  value       = module.image_registry.repository
}

output "object_store" {
  description = "Values `objectStore.bucket` and `objectStore.external.endpoint` of the platform chart."
  value = {
    bucket   = module.buckets.bucket
    endpoint = module.buckets.endpoint
  }
}

output "store_credentials" {
  description = "Content of the store's secret."
  sensitive   = true
  value = {
    access-key-id     = module.buckets.access_key_id
    secret-access-key = module.buckets.secret_access_key
  }
}

output "queue_flavors" {
  description = "Entries for `queues.flavors` of the platform chart, without quotas."
  value       = [for pool in module.gpu_node_pool : pool.flavor]
}

output "launcher_identity" {
  description = "Value of the annotation `iam.gke.io/gcp-service-account` on the launcher's service account."
  value       = module.launcher_identity.email
}
