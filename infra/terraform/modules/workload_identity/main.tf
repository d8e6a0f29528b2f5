# Lets one Kubernetes service account act as one cloud account, without a key.
resource "google_service_account" "this" {
  project      = var.project
  account_id   = var.name
  display_name = "Kubernetes ${var.namespace}/${var.kubernetes_account}"
}

resource "google_service_account_iam_member" "this" {
  service_account_id = google_service_account.this.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/${var.kubernetes_account}]"
}

resource "google_project_iam_member" "this" {
  for_each = toset(var.roles)
  project  = var.project
  role     = each.value
  member   = google_service_account.this.member
}
