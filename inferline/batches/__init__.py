"""Batches: lines of requests that can wait, validated, cut into shards, and collected again."""
