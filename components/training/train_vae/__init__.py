"""Component `train_vae`."""
