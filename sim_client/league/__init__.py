"""A folder of checkpoints as a ranking that grows with them."""
