"""Named recipes: what was measured to work, in Python, by stage."""
