"""Component `score_aesthetic`."""
