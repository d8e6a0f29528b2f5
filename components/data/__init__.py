"""Components of the data stages."""
