"""Suites beside the composed scenes: what each asks for and how its answers become scores."""
