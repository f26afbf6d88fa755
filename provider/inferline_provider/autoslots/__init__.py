"""Automatic slots: finds how many tasks the backend should run at once."""
