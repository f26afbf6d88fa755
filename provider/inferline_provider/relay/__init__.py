"""Relay: the stages of an answer from the backend's connection to the task's chunks."""
