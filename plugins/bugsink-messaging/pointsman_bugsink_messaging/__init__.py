"""A Django app for Bugsink: the messaging service kind "Pointsman".

It is added to INSTALLED_APPS of Bugsink's settings; see README.md. Only ``apps``, ``backend`` and ``inert`` import
Bugsink and Django; the other modules are plain functions.
"""

KIND = "pointsman"
"""The kind as Bugsink stores it; at most 20 characters."""

SUPPORTED = ("2.5.1", "2.6.0", "2.6.1", "2.6.2")
"""The Bugsink versions this was tested with. With any other version the app registers nothing that sends."""

LOGGER = "bugsink.pointsman"
"""A child of Bugsink's own logger, so that its handlers show our lines in both of its processes."""
