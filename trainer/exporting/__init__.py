"""Checkpoints made ready for others."""
