"""Policies evaluated in simulation while they are trained, by programs that run beside it."""
