"""Learning histories: how they are laid out and read."""
