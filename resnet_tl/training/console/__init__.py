"""What a person sees of a fit in the terminal."""
