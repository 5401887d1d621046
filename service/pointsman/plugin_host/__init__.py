"""Find, check, instantiate and contain plugins."""
