"""Decode request bodies: any bytes become a value or a problem that names the position."""

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.intake.errors import InvalidBody
from pointsman.intake.json_body import DEPTH_LIMIT, decode, too_deep
from pointsman.web.problems import as_problem

QUICK = settings(deadline=None, max_examples=80)


def refused(body):
    with pytest.raises(InvalidBody) as caught:
        decode(body)
    problem = as_problem(caught.value)
    assert (problem.name, problem.status, problem.detail) == ("invalid-json", 400, caught.value.detail)
    assert caught.value.detail
    return caught.value.detail


def texts(value):
    """All texts in a value, keys too."""
    todo, texts = [value], []
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, dict):
            todo += [*node, *node.values()]
        elif isinstance(node, list):
            todo += node
    return texts


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@QUICK
@given(values, st.booleans())
def test_json_is_read_as_what_it_is(value, ascii_only):
    def stored(item):
        if isinstance(item, str):
            return item.replace("\x00", "\ufffd")
        if isinstance(item, list):
            return [stored(inner) for inner in item]
        if isinstance(item, dict):
            return {stored(key): stored(inner) for key, inner in item.items()}
        return item

    assert decode(json.dumps(value, ensure_ascii=ascii_only).encode()) == stored(value)


PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"\\udc00",
        b"\\u0000",
        b'"a"',
        b'"a":',
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1",
        b"-",
        b"1e400000",
        b"0.1",
        b"9" * 400,
        b"\xef\xbb\xbf",
        b"\xff",
    ),
    *(b"\x00", b"\n", b" ", "é".encode(), b"\xed\xa0\x80", b"//", b"[" * 70, b"]" * 70),
]


@QUICK
@given(st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_any_bytes_become_a_value_or_a_problem(body):
    try:
        value = decode(body)
    except InvalidBody as error:
        problem = as_problem(error)
        assert (problem.name, problem.status, bool(problem.detail)) == ("invalid-json", 400, True)
        return
    for text in texts(value):
        assert "\x00" not in text
        text.encode()
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    "body", [b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"1e400000", b"-1e400000", b"[1, 1e999]"]
)
def test_numbers_that_json_does_not_have_or_nobody_can_hold_are_refused(body):
    refused(body)


def test_a_number_too_large_is_refused_even_beside_what_is_read_with_patience():
    refused(b'["\\ud800", 1e400000]')


def test_long_numbers_are_kept_to_the_digit_and_endless_ones_refused():
    assert decode(b"1" * 100) == int("1" * 100)
    assert math.isfinite(decode(b"1e308"))
    refused(b"1" * 100_000)
    refused(b'{"a": -' + b"1" * 100_000 + b"}")


def test_half_a_character_and_nul_are_replaced_and_the_rest_is_kept():
    """Real senders cut texts in the middle of a surrogate pair; Postgres takes neither."""
    assert decode(b'{"a\\ud83d": "x\\ud800y\\u0000z", "b": "\\ud83d\\ude00"}') == {
        "a\ufffd": "x\ufffdy\ufffdz",
        "b": "\U0001f600",
    }


def test_nul_alone_is_replaced_too():
    assert decode(b'{"a\\u0000": ["x\\u0000y"]}') == {"a\ufffd": ["x\ufffdy"]}


def test_raw_control_characters_are_refused():
    refused(b'"a\x00b"')
    refused(b'"a\nb"')


def test_a_byte_order_mark_is_not_minded():
    assert decode(b"\xef\xbb\xbf{}") == {}
    refused(b"\xef\xbb\xbf\xef\xbb\xbf{}")
    refused('{"a": 1}'.encode("utf-16"))


def test_of_two_equal_keys_the_last_one_counts():
    assert decode(b'{"a": 1, "a": 2}') == {"a": 2}
    assert decode(b'{"a": 1, "a": 2, "b": "\\ud800"}') == {"a": 2, "b": "\ufffd"}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"", "line 1, column 1"),
        (b"[1, 2", "line 1, column 6"),
        (b'{"a": 1} x', "line 1, column 10"),
        (b'{"a": "\xff"}', "byte 7"),
    ],
)
def test_a_mistake_is_told_with_its_place(body, where):
    assert where in refused(body)


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_nesting_is_taken_up_to_the_limit_and_then_refused(opened, closed):
    levels = opened.count(b"[") + opened.count(b"{")
    fits = DEPTH_LIMIT // levels
    assert decode(opened * fits + b"1" + closed * fits)
    assert str(DEPTH_LIMIT) in refused(opened * (fits + 1) + b"1" + closed * (fits + 1))
    refused(opened * 100_000)
    refused(opened * 100_000 + closed * 100_000)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1000,
        "{" * 1000,
        '"' + "[" * 1000,
        "\\" + "{" * 1000,
        '\\"' * 500 + "[" * 100,
        "[\\" * 99,
        "[]" * 100,
    ],
)
def test_brackets_in_texts_are_no_nesting(text):
    assert decode(json.dumps({text: [text, text]}).encode()) == {text: [text, text]}


def test_many_brackets_side_by_side_are_no_nesting():
    assert decode(b"[" + b",".join([b"{}"] * 1000) + b"]") == [{}] * 1000


@QUICK
@given(
    st.lists(
        st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b"a", b"[" * 40, b'"]"']), max_size=20
    ).map(b"".join)
)
def test_nesting_is_counted_as_a_reader_would(body):
    """Byte by byte, with texts left out: the fast way may not differ from the plain one."""
    depth = deepest = 0
    inside = escaped = False
    for byte in body:
        sign = chr(byte)
        if inside:
            inside = escaped or sign != '"'
            escaped = not escaped and sign == "\\"
        elif sign == '"':
            inside = True
        elif sign in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in "]}":
            depth -= 1
    assert too_deep(body) is (deepest > DEPTH_LIMIT)


@pytest.mark.parametrize("piece", [b'"', b'\\"', b'"\\', b'"a', b"[]", b'["'])
def test_the_time_to_look_for_nesting_grows_with_the_size_only(piece):
    def seconds(size):
        body = b'"' + piece * (size // len(piece)) + b"[" * 65
        best = float("inf")
        for _ in range(2):
            begun = time.process_time()
            too_deep(body)
            best = min(best, time.process_time() - begun)
        return best

    small = max(seconds(2**14), 0.001)
    assert seconds(2**17) < 8 * small * 4


def test_a_long_text_does_not_cost_many_times_its_size():
    """A webhook may have 25 MiB: its texts are skipped without remembering each letter."""
    import tracemalloc

    body = b'"' + b"a" * 2**20 + b'\\"' * 2**18 + b'"' + b"[" * 65
    tracemalloc.start()
    try:
        too_deep(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(body)
