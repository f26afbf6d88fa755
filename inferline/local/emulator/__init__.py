"""The AWS emulator of the one-machine mode."""
