"""Metrics and traces of a provider, and the speeds that it reports."""
