"""The best fit that there is time for: measured, planned, and kept to."""
