"""The commands that ask a gateway or administer a stack, each in a module of its own."""
