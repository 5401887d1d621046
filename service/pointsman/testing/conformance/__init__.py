"""The conformance kit: what a tracker plugin has to do, as tests that any plugin can run.

A plugin's author writes a ``TrackerDouble``, a fixture ``tracker_case``, and one class::

    class TestConformance(ConformanceSuite):
        pass
"""

from pointsman.testing.conformance.case import IssueThere, TrackerCase, TrackerDouble, WebhookCall
from pointsman.testing.conformance.suite import ConformanceSuite

__all__ = ["ConformanceSuite", "IssueThere", "TrackerCase", "TrackerDouble", "WebhookCall"]
