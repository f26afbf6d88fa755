"""The LLM server beside this provider: its HTTP API, health, models, capacity and slots."""
