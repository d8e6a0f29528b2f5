"""Networks: the packed DiT, its moving average, and the adapter to diffusers' folders."""
