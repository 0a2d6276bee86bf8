"""Demonstrations in memory, windows of them, and the transforms around a model."""
