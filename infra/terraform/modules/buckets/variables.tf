variable "name" {
  description = "Name of the bucket; names are shared by all customers of the cloud."
  type        = string
}

variable "account_prefix" {
  description = "Beginning of the service account's name."
  type        = string
}

variable "project" {
  description = "Cloud project."
  type        = string
}

variable "location" {
  description = "Where objects lie; near the GPUs."
  type        = string
}

variable "noncurrent_days" {
  description = "Days for which deleted and overwritten objects are kept."
  type        = number
}

variable "soft_delete_days" {
  description = "Days for which the cloud itself can bring deleted objects back."
  type        = number
}

variable "incomplete_upload_days" {
  description = "Days after which parts of an upload that never ended are deleted."
  type        = number
}
