"""A client's request read with suspicion: JSON, forms, headers."""
