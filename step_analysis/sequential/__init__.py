"""Sequential tests of which of two policies succeeds more often."""
