"""Measurements of failing backends and of the requests beside them."""
