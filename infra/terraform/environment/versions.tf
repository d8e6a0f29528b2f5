terraform {
  required_version = ">= 1.9.0, < 2.0.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.0"
    }
  }

  # Settings come by `terraform init -backend-config=...`, one state for each stage.
  backend "gcs" {}
}

provider "google" {
  project = var.project
  region  = var.region
}
