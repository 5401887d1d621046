"""The suite as one class: subclass it in a test module that has a fixture ``tracker_case``."""

from __future__ import annotations

from typing import ClassVar

from pointsman.testing.conformance.tests_behaviour import BehaviourTests
from pointsman.testing.conformance.tests_contract import ContractTests
from pointsman.testing.conformance.tests_faults import FaultTests
from pointsman.testing.conformance.tests_text import TextTests
from pointsman.testing.conformance.tests_webhook import WebhookTests


class ConformanceSuite(ContractTests, BehaviourTests, FaultTests, WebhookTests, TextTests):
    """Every test that a tracker has to pass."""

    pointsman_conformance: ClassVar[bool] = True
    """The report card recognizes the suite's tests by this."""
