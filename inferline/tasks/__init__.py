"""Tasks: the state machine, and the ports to the store, the queue and the bodies."""
