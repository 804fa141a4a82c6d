"""Serving a model by HTTP: a bounded queue, its limits, and a page for people."""
