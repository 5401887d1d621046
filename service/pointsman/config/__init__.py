"""Read settings, the configuration file and secrets, and compare configurations."""
