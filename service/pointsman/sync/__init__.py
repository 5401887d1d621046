"""Apply changes that come back from trackers and sources."""
