"""Component `measure_drift`."""
