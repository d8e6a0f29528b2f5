"""Components of the evaluation stages."""
