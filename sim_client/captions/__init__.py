"""Pictures of the station's scenes and what can truly be said about them."""
