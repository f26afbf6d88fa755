"""Measurements of time and CPU on real processes."""
