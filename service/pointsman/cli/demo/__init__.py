"""Demonstrate the way of an alert and a ticket on one machine."""
