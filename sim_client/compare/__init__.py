"""Comparing policies in simulation, on the same seeds, until a valid test has decided."""
