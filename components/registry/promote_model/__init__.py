"""Component `promote_model`."""
