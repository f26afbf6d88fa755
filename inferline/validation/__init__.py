"""The checks of a client's request: JSON, forms, headers."""
