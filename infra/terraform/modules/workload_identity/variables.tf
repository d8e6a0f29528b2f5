variable "name" {
  description = "Name of the cloud account."
  type        = string
}

variable "project" {
  description = "Cloud project."
  type        = string
}

variable "namespace" {
  description = "Namespace of the Kubernetes service account."
  type        = string
}

variable "kubernetes_account" {
  description = "Name of the Kubernetes service account."
  type        = string
}

variable "roles" {
  description = "Roles of the cloud account in the project."
  type        = list(string)

  validation {
    condition     = !anytrue([for role in var.roles : contains(["roles/owner", "roles/editor"], role)])
    error_message = "roles/owner and roles/editor are too wide for a workload."
  }
}
