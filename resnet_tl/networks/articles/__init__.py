"""The networks of articles and courses, each written to be read."""
