"""Component `export_bundle`."""
