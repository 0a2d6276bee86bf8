"""Closed-loop evaluation of a served policy over worker processes."""
