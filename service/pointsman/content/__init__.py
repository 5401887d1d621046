"""Sanitize, render and redact outgoing texts. Pure."""
