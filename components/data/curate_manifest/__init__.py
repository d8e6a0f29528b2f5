"""Component `curate_manifest`."""
