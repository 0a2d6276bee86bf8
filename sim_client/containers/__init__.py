"""Simulators in Docker containers: `sim-client evaluate --executor docker`."""
