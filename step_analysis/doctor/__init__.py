"""What is wrong with rollouts, how often, and what it does to the numbers."""
