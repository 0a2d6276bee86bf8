"""A study: several policies on the same seeds until a valid test has decided which is better."""
