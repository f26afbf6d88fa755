"""OpenAI's Batch API: its routes, and the work on batches in a gateway's background."""
