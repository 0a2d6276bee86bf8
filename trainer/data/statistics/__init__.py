"""Statistics of low-dimensional data: one pass, mergeable, no frame touched."""
