variable "name" {
  description = "Name of the pool, also its node label `pool`."
  type        = string
}

variable "project" {
  description = "Cloud project."
  type        = string
}

variable "cluster_id" {
  description = "Cluster, from module cluster."
  type        = string
}

variable "location" {
  description = "Location of the cluster."
  type        = string
}

variable "zones" {
  description = "Zones that offer this accelerator."
  type        = list(string)
}

variable "machine_type" {
  description = "Machine that carries the accelerators."
  type        = string
}

variable "accelerator" {
  description = "Type of accelerator."
  type        = string
}

variable "accelerators_per_node" {
  description = "Accelerators of one node."
  type        = number
}

variable "min_nodes" {
  description = "Fewest nodes; 0 costs nothing while nobody trains."
  type        = number

  validation {
    condition     = var.min_nodes >= 0
    error_message = "min_nodes must not be negative."
  }
}

variable "max_nodes" {
  description = "Most nodes; the quota of the queue must not ask for more."
  type        = number

  validation {
    condition     = var.max_nodes > 0
    error_message = "max_nodes must be at least 1; leave the pool out instead."
  }
}

variable "spot" {
  description = "Use nodes that may be taken away; jobs resume from their checkpoints."
  type        = bool
}

variable "disk_size_gb" {
  description = "Boot disk; holds images."
  type        = number
}

variable "local_ssds" {
  description = "Local disks joined to the nodes' ephemeral storage, for shards and checkpoints; 0 for none."
  type        = number
}

variable "compact_placement" {
  description = "Put nodes close together, for training over several of them."
  type        = bool
}

variable "node_service_account" {
  description = "Account that nodes run as, from module cluster."
  type        = string
}
