output "bucket" {
  description = "Value `objectStore.bucket` of the platform chart."
  value       = google_storage_bucket.store.name
}

output "endpoint" {
  description = "Value `objectStore.external.endpoint` of the platform chart."
  value       = "https://storage.googleapis.com"
}

output "access_key_id" {
  description = "Key `access-key-id` of the store's secret."
  value       = google_storage_hmac_key.store.access_id
}

output "secret_access_key" {
  description = "Key `secret-access-key` of the store's secret."
  value       = google_storage_hmac_key.store.secret
  sensitive   = true
}
