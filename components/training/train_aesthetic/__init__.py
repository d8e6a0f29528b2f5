"""Component `train_aesthetic`."""
