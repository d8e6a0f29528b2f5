# The store's bucket, with an S3 key for it. Objects are written once under their digest, so versions only guard against mistakes.
resource "google_storage_bucket" "store" {
  name                        = var.name
  project                     = var.project
  location                    = var.location
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  # What garbage collection deleted stays recoverable for a while.
  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.noncurrent_days
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = var.incomplete_upload_days
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }
}

resource "google_service_account" "store" {
  project      = var.project
  account_id   = "${var.account_prefix}-store"
  display_name = "S3 key of the Imagewright store"
}

resource "google_storage_bucket_iam_member" "store" {
  bucket = google_storage_bucket.store.name
  role   = "roles/storage.objectUser"
  member = google_service_account.store.member
}

resource "google_storage_hmac_key" "store" {
  project               = var.project
  service_account_email = google_service_account.store.email
}
