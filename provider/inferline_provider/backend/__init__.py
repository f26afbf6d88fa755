"""The LLM server beside this provider: its HTTP API, its health and its capacity."""
