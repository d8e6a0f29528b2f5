stage            = "dev"
project          = "my-project-dev"
region           = "europe-west4"
cluster_location = "europe-west4-b"

ranges = {
  nodes    = "10.10.0.0/20"
  pods     = "10.10.64.0/18"
  services = "10.10.32.0/20"
}

api_server_ranges = { office = "203.0.113.0/24" } # documentation range: put yours here

release_channel     = "RAPID"
deletion_protection = false
platform_nodes      = { machine_type = "e2-standard-4", min = 1, max = 3 }

gpu_pools = {
  gpu-l4-spot = {
    zones                 = ["europe-west4-b"]
    machine_type          = "g2-standard-12"
    accelerator           = "nvidia-l4"
    accelerators_per_node = 1
    min_nodes             = 0
    max_nodes             = 2
    spot                  = true
    disk_size_gb          = 200
    local_ssds            = 1
    compact_placement     = false
  }
}

bucket = "my-project-dev-imagewright"
bucket_retention = {
  noncurrent_days        = 7
  soft_delete_days       = 7
  incomplete_upload_days = 2
}
untagged_image_days = 7

namespace        = "imagewright"
launcher_account = "iw-imagewright-launcher"
launcher_roles   = []
