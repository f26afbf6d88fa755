"""Traces and the names that metrics and spans use."""
