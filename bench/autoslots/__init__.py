"""Automatic slots beside the best fixed number."""
