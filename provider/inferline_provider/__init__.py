"""The process beside an LLM server: pulls tasks, has them answered, writes the answers back."""
