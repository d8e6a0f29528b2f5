"""Ways to train: each is one `train_step` on the shared training core."""
