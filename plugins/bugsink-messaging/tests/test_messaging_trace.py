import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman_bugsink_messaging import trace
from pointsman_bugsink_messaging.trace import shortened, stack_trace


def frame(line, *, file="shop.py", function="price", in_app=True, **more):
    return {
        "filename": file,
        "function": function,
        "lineno": line,
        "context_line": "        return 1 / basket",
        "pre_context": ["def a():", "    if b:", "        c = 1", "        d = 2"],
        "post_context": ["", "def e():"],
        "vars": {"basket": "'local-value'"},
        "in_app": in_app,
        **more,
    }


def exception(kind="ValueError", value="no", frames=(), **more):
    return {"type": kind, "value": value, "stacktrace": {"frames": list(frames)}, **more}


def of(*exceptions):
    return stack_trace({"exception": {"values": list(exceptions)}})


def test_a_trace_reads_from_the_failure_outwards():
    """Library calls are one line, the application's own have their source lines, and locals are nowhere."""
    frames = [
        frame(4, function="main"),
        frame(99, file="lib/http.py", function="call", in_app=False),
        frame(12),
    ]
    assert of(exception(value="no\nmore", frames=frames)) == (
        "ValueError: no\n"
        "(most recent call first)\n"
        "  shop.py:12 in price\n"
        "       9      if b:\n"
        "      10          c = 1\n"
        "      11          d = 2\n"
        "    > 12          return 1 / basket\n"
        "      13\n"
        "      14  def e():\n"
        "  lib/http.py:99 in call\n"
        "  shop.py:4 in main\n"
        "      1      if b:\n"
        "      2          c = 1\n"
        "      3          d = 2\n"
        "    > 4          return 1 / basket\n"
        "      5\n"
        "      6  def e():"
    )


def test_the_exception_with_the_title_comes_first_and_its_cause_below():
    matching = of(
        exception("KeyError", "'x'", [frame(1)]), exception("ShopError", "sorry", [frame(2)])
    ).split("\n")
    assert matching[0] == "ShopError: sorry"
    assert (
        matching.index("KeyError: 'x'")
        == matching.index("Caused by") + 1
        > matching.index("  shop.py:2 in price")
    )
    assert matching.count("(most recent call first)") == 1


def test_without_marks_every_call_has_its_source_lines():
    """SDKs that don't tell the application's calls from a library's."""
    unmarked = [frame(7, in_app=None), frame(8, in_app=None)]
    assert of(exception(frames=unmarked)).count("    > ") == 2
    assert of(exception(frames=[*unmarked, frame(9)])).count("    > ") == 1
    assert of(exception(frames=[frame(9, in_app=False)])).count("    > ") == 0


def test_endless_recursion_is_told_shortly():
    matching = of(exception("RecursionError", frames=[frame(n, in_app=False) for n in range(1, 1001)])).split(
        "\n"
    )
    assert matching[2] == "  shop.py:1000 in price"
    assert "  ... 950 calls left out ..." in matching
    assert matching[-1] == "  shop.py:1 in price"
    assert len(matching) == 2 + trace.FRAMES_NEWEST + 1 + trace.FRAMES_OLDEST


def test_no_more_than_the_limit():
    frames = [frame(n) for n in range(1, 41)]
    matching = stack_trace({"exception": {"values": [exception(frames=frames)]}}, limit=1000)
    assert 900 < len(matching) <= 1000
    assert matching.startswith("ValueError: no\n")
    assert matching.endswith("\n" + trace.CUT)
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd\n" * 20, 3) == ""


def test_a_message_may_bring_its_stack_along():
    assert stack_trace({"stacktrace": {"frames": [frame(3)]}}).startswith(
        "(most recent call first)\n  shop.py:3"
    )
    threads = [
        {"id": 1, "name": "idle", "stacktrace": {"frames": [frame(3)]}},
        {"id": 2, "name": "worker", "current": True, "stacktrace": {"frames": [frame(5)]}},
    ]
    assert stack_trace({"threads": {"values": threads}}).startswith("Thread worker\n(most")


@pytest.mark.parametrize(
    "data",
    [{}, {"exception": None}, {"exception": {"values": [exception()]}}, {"threads": {"values": [{"id": 1}]}}],
)
def test_nothing_but_a_heading_is_nothing(data):
    assert stack_trace(data) == ""


def test_what_would_break_a_text_is_made_plain():
    broken = frame(3, file="a\x1b[31m\nb.py", function="\ud800f", context_line="x\0\u2028y" + "z" * 9999)
    matching = of(exception(value="\n\n \x07bell", frames=[broken]))
    assert matching.startswith("ValueError:   bell\n")
    assert "  a [31m b.py:3 in ?f" in matching
    assert max(map(len, matching.split("\n"))) < 300
    assert "\u2028" not in matching
    matching.encode()


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "values",
                    "frames",
                    "stacktrace",
                    "type",
                    "value",
                    "lineno",
                    "context_line",
                    "pre_context",
                    "filename",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["exception", "threads", "stacktrace", "values"]), ANY))
def test_no_event_is_too_strange(data):
    stack_trace(data).encode()
