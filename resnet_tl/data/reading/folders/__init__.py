"""Folders that label images: the tree, splits, and what is no class."""
