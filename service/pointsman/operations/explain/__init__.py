"""Explain why a ticket has an issue or has none."""
