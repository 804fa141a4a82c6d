"""Checkpoints from which an interrupted fit goes on exactly."""
