"""Models that other systems trained, made ours."""
