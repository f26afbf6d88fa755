"""Stages of an answer on its way to the client: what each changes, and their order."""
