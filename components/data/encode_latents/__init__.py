"""Component `encode_latents`."""
