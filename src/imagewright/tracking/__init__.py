"""Tracking: MLflow runs fed through a durable spool, the model registry, the promotion log and its gate, lineage."""
