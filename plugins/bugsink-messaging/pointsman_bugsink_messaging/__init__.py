"""A Django app for Bugsink: the messaging service kind "Pointsman".

It is added to INSTALLED_APPS of Bugsink's settings; see README.md. Of Bugsink and Django know ``apps``, ``backend`` and
``inert``; the other modules are plain functions.
"""

KIND = "pointsman"
"""The kind as Bugsink stores it; at most 20 characters."""

SUPPORTED = ("2.5.1", "2.6.0", "2.6.1", "2.6.2")
"""The Bugsink versions this was tested with. With any other one the app stays out of the way."""

LOGGER = "bugsink.pointsman"
"""Below Bugsink's own logger, so that its handlers show what we say in both of its processes."""
