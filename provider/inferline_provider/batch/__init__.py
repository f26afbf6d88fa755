"""Batch work: shards of lines, each asked of the backend in a slot that nothing better needs."""
