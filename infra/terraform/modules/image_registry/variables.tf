variable "name" {
  description = "Name of the repository."
  type        = string
}

variable "project" {
  description = "Cloud project."
  type        = string
}

variable "region" {
  description = "Region of the repository."
  type        = string
}

variable "untagged_days" {
  description = "Days for which images without a tag are kept."
  type        = number
}
