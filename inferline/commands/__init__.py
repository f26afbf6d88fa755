"""The commands that read from a gateway or administer a stack, each in a module of its own."""
