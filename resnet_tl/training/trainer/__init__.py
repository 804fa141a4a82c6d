"""What concerns Lightning's Trainer: what it is given, its processes and precision."""
