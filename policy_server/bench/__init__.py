"""Load for a policy server, and what it takes of it."""
