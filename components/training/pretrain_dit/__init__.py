"""Component `pretrain_dit`."""
