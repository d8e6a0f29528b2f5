variable "stage" {
  description = "Stage of the environment, part of every name."
  type        = string

  validation {
    condition     = contains(["dev", "staging", "prod"], var.stage)
    error_message = "stage must be dev, staging or prod."
  }
}

variable "project" {
  description = "Cloud project."
  type        = string
}

variable "region" {
  description = "Region of network, bucket and image registry."
  type        = string
}

variable "cluster_location" {
  description = "Region or zone of the cluster."
  type        = string
}

variable "ranges" {
  description = "Address ranges, which must not overlap."
  type = object({
    nodes    = string
    pods     = string
    services = string
  })
}

variable "api_server_ranges" {
  description = "Who may call the API server: name => address range."
  type        = map(string)

  validation {
    condition     = !contains(values(var.api_server_ranges), "0.0.0.0/0")
    error_message = "the API server must not be open to everybody."
  }
}

variable "release_channel" {
  description = "How fast the cluster takes new Kubernetes versions."
  type        = string
}

variable "deletion_protection" {
  description = "Refuse to destroy the cluster."
  type        = bool
}

variable "platform_nodes" {
  description = "Pool for platform services."
  type = object({
    machine_type = string
    min          = number
    max          = number
  })
}

variable "gpu_pools" {
  description = "GPU node pools by name; names become flavours of the queue."
  type = map(object({
    zones                 = list(string)
    machine_type          = string
    accelerator           = string
    accelerators_per_node = number
    min_nodes             = number
    max_nodes             = number
    spot                  = bool
    disk_size_gb          = number
    local_ssds            = number
    compact_placement     = bool
  }))
}

variable "bucket" {
  description = "Name of the store's bucket."
  type        = string
}

variable "bucket_retention" {
  description = "Days for which deleted objects, and parts of uploads that never ended, are kept."
  type = object({
    noncurrent_days        = number
    soft_delete_days       = number
    incomplete_upload_days = number
  })
}

variable "untagged_image_days" {
  description = "Days for which images without a tag are kept."
  type        = number
}

variable "namespace" {
  description = "Namespace of the platform chart."
  type        = string
}

variable "launcher_account" {
  description = "Service account of the platform chart that launches training."
  type        = string
}

variable "launcher_roles" {
  description = "Cloud roles of the launcher; none are needed for Kubernetes alone."
  type        = list(string)
}
