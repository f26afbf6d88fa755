"""The gateway's outer layers: what is put right before a request reaches its route, or after."""
