"""Component `build_preferences`."""
