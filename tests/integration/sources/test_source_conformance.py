"""The conformance suite for source kinds: all built-in kinds pass, and it detects mistakes."""

import pytest

from pointsman.plugin_api import PluginSettings, Report, Source
from pointsman.sources import KINDS
from pointsman.testing.conformance import SourceCase, SourceConformanceSuite, SourceExample
from source_examples import CASES


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def source_case(request):
    return request.param


class TestSources(SourceConformanceSuite):
    pass


def test_every_kind_is_tried():
    assert {case.source for case in CASES.values()} == set(KINDS)


class WrongSettings(PluginSettings, frozen=True, kw_only=True):
    signing_secret: str = ""


class Wrong(Source):
    """Wrong in each way that the suite should see."""

    kind = "Wrong Kind"
    title = ""
    api_version = 1
    Settings = WrongSettings
    ticket_kind = "alert"
    kept_headers = ("Authorization",)

    def verify(self, headers, body):
        return bool(headers["x-signature"])

    def read_report(self, headers, body, decoded):
        at = decoded.pop("at")
        return [Report(action="opened", fingerprint=f"{decoded['name']} {at}", title="", dedupe="x")]


WRONG = SourceCase(
    source=Wrong,
    examples=[
        SourceExample(name="one", body={"name": "n", "at": 1}, later={"name": "n", "at": 2}, needed=("name",))
    ],
)
TESTS = [name for name in dir(SourceConformanceSuite) if name.startswith("test_")]
FINE = {
    "test_reports_of_one_request_are_told_apart",
    "test_fields_that_are_not_known_are_ignored",
    "test_the_test_button_makes_no_ticket",
    "test_hostile_texts_are_taken",
    "test_headers_may_hold_anything",
}


@pytest.mark.parametrize("name", [name for name in TESTS if name not in FINE])
def test_the_suite_finds_what_is_wrong(name):
    with pytest.raises((AssertionError, KeyError, TypeError, AttributeError)):
        getattr(SourceConformanceSuite(), name)(WRONG)
