"""The report on an evaluation: one page, its figures, and all numbers."""
