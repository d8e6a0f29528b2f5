"""Component `evaluate_aesthetic`."""
