"""A running evaluation in the terminal."""
