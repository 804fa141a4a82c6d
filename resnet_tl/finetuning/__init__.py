"""What trains: modes, phases, freezing and its proof, parameter groups, learning rates."""
