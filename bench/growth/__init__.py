"""What the registry and the polls cost as the fleet grows."""
