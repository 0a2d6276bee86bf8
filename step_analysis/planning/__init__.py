"""What a test will do, before any episode is run."""
