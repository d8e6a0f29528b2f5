"""Component `distill_turbo`."""
