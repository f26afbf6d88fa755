"""The way back: reads a task's answer from the store and streams it to the client."""
