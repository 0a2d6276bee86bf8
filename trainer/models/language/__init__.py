"""A decoder-only transformer, its masks, its cache and its loss."""
