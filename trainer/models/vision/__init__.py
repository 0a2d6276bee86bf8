"""Images to tokens: a vision transformer and the connector to a language model."""
