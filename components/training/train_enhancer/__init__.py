"""Component `train_enhancer`."""
