"""The shared training core: loop, engines, checkpoints, guard. Methods plug into it; it knows no method."""
