"""Component `ingest_raw`."""
