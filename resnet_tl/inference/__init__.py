"""What a model bundle is used for: predicting and submitting."""
