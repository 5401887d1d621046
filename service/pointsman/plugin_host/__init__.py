"""Find, check and instantiate plugins, and contain what they do."""
