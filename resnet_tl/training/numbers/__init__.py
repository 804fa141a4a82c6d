"""The numbers of a fit: each image counted once, on whatever number of processes."""
