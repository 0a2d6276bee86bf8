"""Networks: images and robot states in, action chunks out."""
