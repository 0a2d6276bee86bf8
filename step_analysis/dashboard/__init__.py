"""Live results of running and finished evaluations in a browser, served on this machine."""
