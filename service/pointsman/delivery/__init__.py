"""Keeping promises: tracker calls and notifications, one notion for all."""
