"""How long requests wait for a slot, and at which provider."""
