"""Exact tests that look once, when all episodes are done."""
