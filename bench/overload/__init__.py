"""Which share is answered in time under overload."""
