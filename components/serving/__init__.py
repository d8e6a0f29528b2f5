"""Components of the serving stages."""
