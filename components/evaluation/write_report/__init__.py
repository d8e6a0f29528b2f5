"""Component `write_report`."""
