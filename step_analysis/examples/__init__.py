"""Published rollouts that ship with the package."""
