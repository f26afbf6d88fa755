"""The small LLM server of the one-machine mode."""
