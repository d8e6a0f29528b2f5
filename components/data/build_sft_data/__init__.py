"""Component `build_sft_data`."""
