"""Periodic work on tasks, models and dead letters."""
