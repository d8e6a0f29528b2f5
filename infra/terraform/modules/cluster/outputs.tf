output "cluster_id" {
  description = "Cluster that node pools join."
  value       = google_container_cluster.this.id
}

output "cluster_name" {
  description = "Name for `gcloud container clusters get-credentials`."
  value       = google_container_cluster.this.name
}

output "node_service_account" {
  description = "Account that nodes run as."
  value       = google_service_account.nodes.email
}
