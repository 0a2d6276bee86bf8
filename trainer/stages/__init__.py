"""The kinds of training, each a stage that the one loop runs."""
