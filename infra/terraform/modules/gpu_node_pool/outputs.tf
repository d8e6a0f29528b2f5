output "flavor" {
  description = "Entry for `queues.flavors` of the platform chart, without its quota."
  value = {
    name       = var.name
    nodeLabels = { pool = var.name }
    tolerations = concat(
      [{ key = "nvidia.com/gpu", operator = "Exists", effect = "NoSchedule" }],
      var.spot ? [{ key = "spot", operator = "Exists", effect = "NoSchedule" }] : []
    )
  }
}
