"""The conformance kit: the requirements for a plugin, as tests that any plugin can run.

A plugin's author writes a ``TrackerDouble``, a fixture ``tracker_case``, and one class::

class TestConformance(ConformanceSuite):
        pass

The author of a kind of source writes a fixture ``source_case`` and a class of ``SourceConformanceSuite``.
"""

from pointsman.testing.conformance.source_case import SourceCase, SourceExample
from pointsman.testing.conformance.sources import SourceConformanceSuite
from pointsman.testing.conformance.spec import IssueSnapshot, TrackerCase, TrackerDouble, WebhookCall
from pointsman.testing.conformance.suite import ConformanceSuite

__all__ = [
    "ConformanceSuite",
    "IssueSnapshot",
    "SourceCase",
    "SourceConformanceSuite",
    "SourceExample",
    "TrackerCase",
    "TrackerDouble",
    "WebhookCall",
]
