"""The processes of the one-machine mode: started in order, watched, and ended together."""
