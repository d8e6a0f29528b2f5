output "email" {
  description = "Value of the annotation `iam.gke.io/gcp-service-account` on the Kubernetes service account."
  value       = google_service_account.this.email
}
