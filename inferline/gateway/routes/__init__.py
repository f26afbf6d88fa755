"""The HTTP routes, their access checks, and the objects that they answer with."""
