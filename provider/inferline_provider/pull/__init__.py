"""Pulling: which queue to poll next, how many messages to take, and what to run."""
