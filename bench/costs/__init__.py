"""Measurements of what AWS would bill."""
