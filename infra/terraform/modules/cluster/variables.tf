variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "project" {
  description = "Cloud project."
  type        = string
}

variable "location" {
  description = "Region or zone of the control plane; GPU capacity often exists in single zones."
  type        = string
}

variable "network_id" {
  description = "Network, from module network."
  type        = string
}

variable "subnetwork_id" {
  description = "Subnetwork of the nodes, from module network."
  type        = string
}

variable "release_channel" {
  description = "How fast the cluster takes new Kubernetes versions."
  type        = string
}

variable "deletion_protection" {
  description = "Refuse to destroy the cluster."
  type        = bool
}

variable "api_server_ranges" {
  description = "Who may call the API server: name => address range."
  type        = map(string)
}

variable "platform_nodes" {
  description = "Pool for platform services."
  type = object({
    machine_type = string
    min          = number
    max          = number
  })
}
