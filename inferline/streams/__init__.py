"""The bytes of an answer: server-sent events, endings, errors and packing."""
