"""Source plugin for Bugsink."""
