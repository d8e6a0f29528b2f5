"""Pairwise annotation: tournaments, calibration, simulated annotators, and the web page people vote on."""
