"""Component `evaluate_models`."""
