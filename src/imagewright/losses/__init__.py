"""Losses: pure functions, no state."""
