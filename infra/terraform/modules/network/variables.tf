variable "name" {
  description = "Prefix of every object."
  type        = string
}

variable "project" {
  description = "Cloud project."
  type        = string
}

variable "region" {
  description = "Region of subnetwork and router."
  type        = string
}

variable "node_range" {
  description = "Addresses of nodes."
  type        = string
}

variable "pod_range" {
  description = "Addresses of pods."
  type        = string
}

variable "service_range" {
  description = "Addresses of services."
  type        = string
}
