"""Templates: their variables, their limits, and that untrusted values stay escaped in any template."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.content import sanitize, templates
from pointsman.content.render import TicketText
from pointsman.content.templates import TemplateContext
from pointsman.domain.states import TicketKind
from text_corpus.judges import PARSERS, alive, alive_raw

PAGE = "https://pointsman.test/console/tickets/x"
GROUPS = tomllib.loads((Path(__file__).parents[2] / "text_corpus" / "attacks.toml").read_text("utf-8"))
ATTACKS = [attack for tries in GROUPS.values() for attack in tries.values()]


def ticket(title="KeyError: 'basket'", **fields):
    known = {"id": "7", "kind": TicketKind.ALERT, "source": "shop", "page": PAGE, **fields}
    return TicketText(title=title, **known)


def context_of(title="KeyError: 'basket'", event_kind="opened", **fields):
    fields = {"at": dt.datetime(2026, 11, 22, tzinfo=dt.UTC), **fields}
    return TemplateContext(ticket=ticket(title), event_kind=event_kind, **fields)


def rendered_text(source, name="body", **fields):
    return templates.render(name, source, context_of(**fields)).replace("\u2060", "")


DATA = {
    "text": "It broke.\nTwice.",
    "code": "KeyError",
    "facts": [["service", "basket"], ["Release name", "Elm"], ["service", "cart"], ["none", ""]],
    "author": {"name": "Ada"},
}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{{ title }}", "KeyError: 'basket'"),
        ("{{ text }}", "It broke.  \nTwice."),
        ("{{ code }}", "```text\nKeyError\n```"),
        ("{{ text | code }}", "`It broke. Twice.`"),
        ("{{ text | block }}", "```text\nIt broke.\nTwice.\n```"),
        ("{{ tags.service }}", "basket, cart"),
        ("{{ tags['Release name'] | code }}", "`Elm`"),
        ("{{ tags }}", "- **service:** `basket`\n- **Release name:** `Elm`\n- **service:** `cart`"),
        ("{{ facts | length }} {{ tags.nothing }}{{ tags.none | default('-') }}", "3 -"),
        ("{% for name, value in tags %}{{ loop.index }} {{ name }}: {{ value }}\n{% endfor %}", "1 service: basket\n2 Release name: Elm\n3 service: cart"),
        ("{% for line in text | lines %}* {{ line }}\n{% endfor %}", "* It broke.\n* Twice."),
        ("{{ ticket.id }} {{ ticket.kind }} {{ ticket.source }} {{ ticket.title }}", "7 alert shop KeyError: 'basket'"),
        ("[ticket]({{ ticket.page }})", f"[ticket]({PAGE})"),
        ("{{ event.kind }} {{ event.at }}", "opened 2026-11-22 00:00 UTC"),
        ("{{ level }}/{{ environment }}/{{ release }}", "error/prod/1\\.4"),
        ("{{ url | link }}", "[Open at the source](https://errors.test/1) (`errors.test`)"),
        ("{{ url | link('Look') }}", "[Look](https://errors.test/1) (`errors.test`)"),
        ("{{ occurrences }} {{ earlier }}{% if occurrences > 2 %} often{% endif %}", "3 2 often"),
        ("{{ author }} {{ reason }}.", "Ada ."),
        ("{{ title | upper | truncate(5) }}", "KEYE…"),
        ("{{ title | replace('Key', 'Value') }}", "ValueError: 'basket'"),
        ("{{ title[:3] }} {{ title | lower }} {{ ' x ' | trim }}", "Key keyerror: 'basket' x"),
        ("{% if 'Key' in title and tags.service %}yes{% endif %}{{ 'a' if title == 'b' else 'c' }}", "yesc"),
        ("{# nothing #}a {% raw %}{{ b }}{% endraw %}", "a {{ b }}"),
        ("{% if tags.nothing.more is defined %}{% endif %}x{{ requester.address }}", "x"),
        ("<details><summary>More</summary>\n\n{{ text }}\n\n</details>", "<details><summary>More</summary>\n\nIt broke.  \nTwice.\n\n</details>"),
    ],
)  # fmt: skip
def test_what_a_template_can_say(source, wanted):
    fields = {"level": "error", "environment": "prod", "release": "1.4", "url": "https://errors.test/1"}
    assert rendered_text(source, data=DATA, occurrences=3, earlier=2, **fields) == wanted


def test_a_comment_has_what_was_commented():
    assert (
        rendered_text(
            "{{ author }}: {{ text }}", "comment", event_kind="commented", data={**DATA, "body": "Help"}
        )
        == "Ada: Help"
    )


def test_titles_and_subjects_are_one_line_of_plain_text():
    assert (
        rendered_text("[{{ environment }}]\n {{ title }}", "title", environment="prod")
        == "[prod] KeyError: 'basket'"
    )
    assert templates.render("title", "{{ title }}", context_of("@bob #1")) == sanitize.title("@bob #1")
    assert (
        rendered_text("Done:\n{{ title }} {{ code | code }}", "mail_subject", data={"code": "x"})
        == "Done: KeyError: 'basket' x"
    )
    for name in ("title", "mail_subject", "body"):
        with pytest.raises(ValueError, match="line 1: it comes out empty"):
            templates.render(name, "{{ environment }}", context_of())


@pytest.mark.parametrize(
    ("source", "line", "why"),
    [
        ("a\n{{ tiket.id }}", 2, "there is no 'tiket'; there are ticket, event"),
        ("{{ ticket.nmae }}", 1, "there is no 'nmae'"),
        ("{% if x %}", 1, "Unexpected end of template"),
        ("a\n\n{{ }}", 3, "Expected an expression"),
        ("{{ title | uper }}", 1, "No filter named 'uper'"),
        ("{{ title | safe }}", 1, "No filter named 'safe'"),
        ("{% if title is divisibleby(2) %}{% endif %}", 1, "No test named"),
        ("{{ range(3) }}", 1, "Call: there are no functions"),
        ("{{ title.upper() }}", 1, "Call"),
        ("{{ title ~ text }}", 1, r"Concat: put \{\{ a \}\}\{\{ b \}\}"),
        ("{% set a = title %}", 1, "Assign: nothing can be set"),
        ("{% set a %}b{% endset %}", 1, "AssignBlock"),
        ("{{ 'a' * 99 }}", 1, "Mul"),
        ("{{ 9 ** 9 }}", 1, "Pow"),
        ("{{ '%99d' % 1 }}", 1, "Mod"),
        ("{{ [1] + [2] }}", 1, "Add"),
        ("{% macro a() %}{% endmacro %}", 1, "Macro"),
        ("{% include 'x' %}", 1, "Include"),
        ("{% import 'x' as y %}", 1, "Import"),
        ("{% extends 'x' %}", 1, "Extends"),
        ("{% filter upper %}x{% endfilter %}", 1, "FilterBlock"),
        ("{% block a %}{% endblock %}", 1, "Block"),
        ("{% for a in [1, 2] %}{% endfor %}", 1, "a loop goes over tags"),
        ("{% for a in 'abc' %}{% endfor %}", 1, "a loop goes over tags"),
        ("{% for a, b in tags %}{% if a %}{% for c in text | lines %}{% endfor %}{% endif %}{% endfor %}", 1, "a loop in a loop"),
        ("{% for a, b in tags recursive %}{% endfor %}", 1, "a loop in a loop"),
        ("{{ title.like }}", 1, "a method is no text"),
        ("x\n{{ title | truncate('x') }}", 2, "TypeError"),
        ("{{ ticket }}", 1, "a dict is no text"),
        ("a" * 16_001, 1, "16000 are allowed"),
        ("{% if 1 %}" * 150 + "{% endif %}" * 150, 1, "nested too deeply"),
        ("{{ " + "(" * 4000 + "1" + ")" * 4000 + " }}", 1, "nested too deeply"),
        ("<!-- {{ title }} -->", 1, "HTML"),
        ("<pre>{{ code }}</pre>", 1, "HTML"),
        ("<img src=x> {{ title }}", 1, "HTML"),
        ("<details>\n{{ text }}\n</details>", 1, "an empty line"),
        ("<details>{{ title | code }}</details>", 1, "an empty line"),
        ("`{{ title | code }} x", 1, "should be code is not"),
        ("[x]({{ ticket.page }}{{ url }})", 1, "URL of a link"),
        ("![x](https://img.test/{{ release }})", 1, "URL of a link"),
    ],
)  # fmt: skip
def test_what_cant_be_used_is_said_with_its_line(source, line, why):
    with pytest.raises(ValueError, match=rf"^line {line}( of its output)?: .*{why}"):
        templates.check(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ title._raw }}",
        "{{ title['_raw'] }}",
        "{{ ticket['__class__'] }}",
        "{{ tags._pairs }}{{ tags['_pairs'] }}",
        "{{ title | attr('_raw') }}",
        "{{ self }}",
        "{{ cycler }}{{ namespace }}{{ lipsum }}",
        "{{ loop }}",
    ],
)
def test_there_is_no_way_out(source):
    attack = "<img src=x> @bob"
    try:
        rendered = templates.render("body", source + ".", context_of(attack))
    except ValueError:
        return
    assert rendered == "."


# each is small, and without bounds would not end, or would fill the memory
BOMBS = {
    "every line of a long text, many times": "{% for l in text | lines %}" + "{% if text | upper == title %}x{% endif %}" * 300 + "{% endfor %}",
    "output": "{% for l in text | lines %}{{ text }}{% endfor %}",
    "output of the author's": "{% for l in text | lines %}" + "x" * 10_000 + "{% endfor %}",
    "replacing": "{{ text | replace('a', 'a" + "b" * 90 + "') | replace('b', 'b" + "a" * 90 + "') | replace('a', 'ccccccccccccc') | replace('c', 'ddddddddddd') | block }}",
    "widths": "{{ title | truncate(999999999999) }}{{ title[:99999999999999] }}",
    "nothing, often": "{% for l in text | lines %}" + "{% if l %}{% endif %}" * 700 + "{% endfor %}",
    "tests": "{% if " + " and ".join(["text == text"] * 900) + " %}x{% endif %}",
    "tags": "{% for n, v in tags %}{{ tags }}{{ tags.x | block }}{% endfor %}",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bombs_do_not_go_off(bomb):
    big = {"text": "a b\n" * 25_000, "facts": [["x", "y" * 5_000]] * 5_000}
    began = time.process_time()
    rendered = ""
    with contextlib.suppress(ValueError):
        rendered = templates.render("body", bomb, context_of(data=big))
    assert len(rendered) <= templates.OUTPUT_LIMIT
    assert time.process_time() - began < 3.0


# templates as people write them, careless ones among them
CARELESS = (
    "{{ text }}",
    "**{{ title }}**\n\n{{ text }}\n\n{{ code }}\n{{ tags }}",
    "- {{ text }}\n- {{ title }}",
    "> {{ text }}",
    "1. {{ title }}\n   {{ text }}",
    "<details>\n{{ text }}\n</details>",
    "<details><summary>{{ title }}</summary>\n\n{{ text }}\n\n{{ code }}</details>",
    "<details>\n{{ title }} {{ code }}\n</details>",
    "<kbd>{{ tags.a }}</kbd>{{ tags.b }}",
    "`{{ title }}` and `{{ text }}`",
    "```\n{{ text }}\n{{ code }}\n```",
    "~~~\n{{ text }}\n~~~",
    "    {{ text }}",
    "{{ tags.a }}{{ tags.b }}{{ tags.a }}",
    "#{{ tags.a }} @{{ tags.b }} /{{ title }} GH-{{ title }} :{{ title }}: www{{ tags.a }} htt{{ tags.b }}",
    "[{{ title }}]({{ url }})",
    "![{{ title }}]({{ url }})",
    "<{{ url }}>",
    "[x]: {{ url }}\n\n[x]",
    "{{ url | link(title) }}",
    "{{ text | upper }} {{ text | truncate(20) }} {{ text | replace('\\\\', '') }}",
    "{{ text | code }} `{{ title | code }}",
    "{{ title | code }}{{ text | code }}{{ title | code }}",
    "{{ title | code | upper }}{{ text | block | truncate(30) }}",
    "{{ text | code | replace('`', '') }}",
    "| a | b |\n| - | - |\n| {{ title }} | {{ text }} |",
    "{% for l in text | lines %}{{ l }}{% endfor %}\n{% for n, v in tags %}{{ n }}{{ v }}{% endfor %}",
    "{{ author }}\n===\n{{ level }}\n---\n\n# {{ title }}",
)


def lives(source, value):
    """Return the active markup of a rendered template; None if the template is rejected."""
    facts = [["a", value], ["b", value[::-1]], [value, "c"]]
    data = {"text": value, "code": value, "facts": facts, "author": {"name": value}}
    rendered = context_of(value, data=data, url=value, level=value)
    try:
        markdown = templates.render("body", source, rendered)
    except ValueError:
        return None
    active = [
        (sorted(seen.kinds), sorted(map(str, seen.links)), alive(seen.prose))
        for seen in (parser(markdown) for parser in PARSERS)
    ]
    return markdown, active, alive_raw(markdown)


@functools.cache
def harmless(source):
    """Return what the template becomes with values that attack nothing."""
    results = [lives(source, value) for value in ("plain words", " ", "https://shop.test/x")]
    return [result for result in results if result is not None]


QUIET_KINDS = {"p", "br", "code", "pre", "a", "ul", "li", "strong"}


def does_nothing(source, value):
    result = lives(source, value)
    if result is None:
        return False
    plain = harmless(source)
    markdown, active, raw = result
    for parser, (kinds, links, live) in enumerate(active):
        known_kinds, known_links, known_live = (
            {attack_name for trial in plain for attack_name in trial[1][parser][place]} for place in range(3)
        )
        # one that begins with our joiner has no scheme and no host: it leads nowhere
        new_links = {
            trial for trial in set(links) - known_links if not trial.startswith(("%E2%81%A0", "\u2060"))
        }
        assert set(kinds) - known_kinds - QUIET_KINDS == set(), (source, markdown)
        if "| link" not in source:
            assert not new_links, (source, markdown)
        assert set(live) - known_live == set(), (source, markdown, live)
    if "code" in source or "```" in source or "~~~" in source or "    {{" in source:
        raw = {
            name: trial for name, trial in raw.items() if name == "a marker"
        }  # plugins disarm commands in code
    assert set(raw) - {attack_name for trial in plain for attack_name in trial[2]} == set(), (
        source,
        markdown,
        raw,
    )
    return True


@pytest.mark.slow
@pytest.mark.parametrize("source", CARELESS)
def test_no_attack_comes_to_life_however_careless_the_template(source):
    used = sum(does_nothing(source, attack) for attack in ATTACKS)
    print(f"{used} of {len(ATTACKS)} used, the others in the built-in words")


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(CARELESS),
    st.lists(st.sampled_from(ATTACKS) | st.text(max_size=4), max_size=4).map("".join),
)
def test_no_mixture_of_attacks_comes_to_life(source, value):
    does_nothing(source, value)


@pytest.mark.slow
def test_good_templates_are_used_whatever_is_said():
    """Fallbacks are for careless ones: these never fail."""
    good = "**{{ title }}**\n\n{{ text }}\n\n{{ code }}\n\n{{ tags }}\n\n{{ level | code }}\n\n[ticket]({{ ticket.page }})"
    assert all(does_nothing(good, attack) for attack in ATTACKS)
