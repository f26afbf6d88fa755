"""The fleet: which models exist, which providers serve them, and how fast."""
