"""What a recipe costs before it runs: FLOPs, memory, time, money."""
