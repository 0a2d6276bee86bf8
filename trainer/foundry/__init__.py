"""Policies of VLA Foundry, served here as they are served there."""
