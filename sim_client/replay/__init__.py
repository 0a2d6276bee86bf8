"""Simulating a recorded episode again, and looking at it."""
