"""Measurements that a stranger can run and trust; `make bench` runs them."""
