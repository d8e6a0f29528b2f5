stage            = "prod"
project          = "my-project-prod"
region           = "europe-west4"
cluster_location = "europe-west4"

ranges = {
  nodes    = "10.30.0.0/20"
  pods     = "10.30.64.0/18"
  services = "10.30.32.0/20"
}

api_server_ranges = { office = "203.0.113.0/24" } # documentation range: put yours here

release_channel     = "STABLE"
deletion_protection = true
platform_nodes      = { machine_type = "e2-standard-8", min = 1, max = 6 }

gpu_pools = {
  gpu-h100 = {
    zones                 = ["europe-west4-b"]
    machine_type          = "a3-highgpu-8g"
    accelerator           = "nvidia-h100-80gb"
    accelerators_per_node = 8
    min_nodes             = 0
    max_nodes             = 16
    spot                  = false
    disk_size_gb          = 500
    local_ssds            = 16
    compact_placement     = true
  }
  gpu-h100-spot = {
    zones                 = ["europe-west4-b"]
    machine_type          = "a3-highgpu-8g"
    accelerator           = "nvidia-h100-80gb"
    accelerators_per_node = 8
    min_nodes             = 0
    max_nodes             = 8
    spot                  = true
    disk_size_gb          = 500
    local_ssds            = 16
    compact_placement     = false
  }
  gpu-l4 = {
    zones                 = ["europe-west4-b"]
    machine_type          = "g2-standard-12"
    accelerator           = "nvidia-l4"
    accelerators_per_node = 1
    min_nodes             = 1
    max_nodes             = 8
    spot                  = false
    disk_size_gb          = 200
    local_ssds            = 1
    compact_placement     = false
  }
}

bucket = "my-project-prod-imagewright"
bucket_retention = {
  noncurrent_days        = 30
  soft_delete_days       = 30
  incomplete_upload_days = 2
}
untagged_image_days = 90

namespace        = "imagewright"
launcher_account = "iw-imagewright-launcher"
launcher_roles   = []
