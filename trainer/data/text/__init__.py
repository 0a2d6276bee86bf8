"""Text and image-text, for the stages of training before robots."""
