"""Contracts between stages: shards, manifest, aspect buckets, latents."""
