"""Finds what ruins policies before they are trained."""
