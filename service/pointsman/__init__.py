"""Pointsman brings error alerts and support tickets onto issue trackers, once each."""

__version__ = "0.1.0"
