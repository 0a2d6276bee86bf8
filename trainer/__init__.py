"""Demonstrations in, checkpoints out."""
