"""Component `score_samples`."""
