"""OpenAI's Files and Uploads: what clients send in is cut into segments, and streamed back."""
