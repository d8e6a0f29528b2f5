"""Flow matching: noising, targets, noise levels, guidance and the packed Euler sampler."""
