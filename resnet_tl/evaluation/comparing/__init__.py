"""Several models on the same images: which is better, and what the best of many is worth."""
