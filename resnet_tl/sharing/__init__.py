"""Giving a model to others: a model card, one zip, and the Hugging Face Hub."""
