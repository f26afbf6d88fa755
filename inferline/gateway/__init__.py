"""The gateway: takes a client's request, puts it on the belt and streams the answer back."""
