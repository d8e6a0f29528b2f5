"""Component `judge_alignment`."""
