"""Component `align_dpo`."""
