"""Components of the registry stages."""
