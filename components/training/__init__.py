"""Components of the training stages."""
