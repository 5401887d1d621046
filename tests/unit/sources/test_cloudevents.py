"""CloudEvents over HTTP: structured, binary, batched."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.plugin_api import Unreadable
from pointsman.sources.cloudevents import CloudEvents, CloudEventsSettings
from source_examples import BINARY, CLOUD_EVENT

SOURCE = CloudEvents(CloudEventsSettings())


def read(body, headers=None, source=SOURCE):
    return list(source.read_report(headers or {}, b"", body))


def test_an_event_is_read_with_all_it_says():
    [report] = read(CLOUD_EVENT)
    assert (report.action, report.title) == ("opened", "The pipeline of main failed")
    assert report.fingerprint == "com.example.pipeline.failed /ci/shop main"
    assert (report.level, report.url, report.event_id) == ("error", "https://ci.example.com/17", "b3f1")
    assert report.dedupe == "/ci/shop\nb3f1" and report.seen_at is not None


def test_binary_says_the_same_as_structured():
    assert read(CLOUD_EVENT["data"], BINARY) == read(CLOUD_EVENT)


def test_headers_of_binary_are_percent_decoded():
    [report] = read({"title": "t"}, {**BINARY, "ce-subject": "Euro%20%E2%82%AC"})
    assert ("Subject", "Euro €") in report.facts


def test_a_batch_is_several_reports_and_may_be_empty():
    assert [report.event_id for report in read([CLOUD_EVENT, {**CLOUD_EVENT, "id": "2"}])] == ["b3f1", "2"]
    assert read([]) == []


def test_data_may_be_base64():
    event = {name: value for name, value in CLOUD_EVENT.items() if name != "data"}
    [report] = read({**event, "data_base64": base64.b64encode(b'{"title": "packed"}').decode()})
    assert report.title == "packed"
    [report] = read({**event, "data_base64": base64.b64encode(b"\xff\x00").decode()})
    assert report.title == "main"
    with pytest.raises(Unreadable, match="base64"):
        read({**event, "data_base64": "not!"})


def test_without_data_the_subject_or_the_type_is_the_title():
    bare = {name: CLOUD_EVENT[name] for name in ("specversion", "id", "source", "type")}
    assert read(bare)[0].title == "com.example.pipeline.failed"


def test_own_expressions_go_before_ours():
    source = CloudEvents(
        CloudEventsSettings(title="type", fingerprint="id", action="type", actions={"*": "ignore"})
    )
    assert read(CLOUD_EVENT, source=source) == []


def test_a_list_in_an_event_is_no_list_of_reports():
    with pytest.raises(ValueError, match="reports"):
        CloudEventsSettings(reports="data")


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_what_is_needed_is_asked_for(name):
    for body, field in (({**CLOUD_EVENT, name: ""}, name), ([{**CLOUD_EVENT, name: None}], f"[0].{name}")):
        with pytest.raises(Unreadable) as caught:
            read(body)
        assert caught.value.field == field
    with pytest.raises(Unreadable, match=r"not 1\.0"):
        read({**CLOUD_EVENT, "specversion": "0.3"})


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from([*CLOUD_EVENT, "data_base64", "extra"]),
        st.none() | st.integers() | st.text(max_size=10) | st.lists(st.integers(), max_size=2),
    ),
    st.dictionaries(st.sampled_from(list(BINARY)), st.text(max_size=10)),
)
def test_anything_gets_a_decision(body, headers):
    for event in (body, {**CLOUD_EVENT, **body}, [body]):
        for sent_headers in ({}, headers, {**BINARY, **headers}):
            try:
                assert all(report.title for report in read(event, sent_headers))
            except Unreadable as error:
                assert str(error)  # noqa: PT017


def test_binary_without_data_is_an_event():
    assert CloudEvents.takes_empty_body
    [report] = read(None, BINARY)
    assert (report.title, report.dedupe) == ("main", "/ci/shop\nb3f1")
