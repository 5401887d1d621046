"""Hostile texts, headers and bytes. They are fixed, so that a failure is reproducible."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

TEXTS: dict[str, str] = {
    "empty": "",
    "blank": " \t\n ",
    "markdown": "# Title\n\n* one\n* **two** [link](https://example.com)\n\n| a | b |\n| --- | --- |\n| 1 | 2 |",
    "open_code_fence": "```python\nraise KeyError('basket')",
    "html": '<script>alert(1)</script><img src=x onerror="alert(1)"><!-- a comment --></div>',
    "open_comment": "the rest is gone <!-- or is it",
    "mentions": "@everyone @acme/team [~accountid:1] #12 acme/shop#12 GH-12 fixes #1, closes #2",
    "commands": "/close\n/assign @me\n/label ~bug",
    "control_characters": "bell \x07 escape \x1b[31m null \x00 delete \x7f next line \x85 separators \u2028\u2029",
    "line_breaks": "one\rtwo\r\nthree\x0bfour\x0cfive",
    "directions": "\u202egnp.exe\u202c \u2066inside\u2069 \u200b\u200d\ufeff",
    "half_a_pair": "broken \ud800 emoji \udc00",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea e\u0301 \u00e9 \uff21 \ufffd",
    "scripts": "\u4e2d\u6587 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940",
    "front_matter": "---\nstatus: closed\nmarker: x\n---\n\"quoted\": 'text'",
    "jql": 'project = "OPS" AND labels = "x" OR 1=1 -- \\',
    "format": "{0} %s %(name)s ${HOME} {{ 7 * 7 }} {% raw %}",
    "long_line": "x" * 5000,
    "long_wide_line": "\U0001f600" * 5000,
    "very_long": "A line that comes again and again.\n" * 9000,
    "very_long_fence": "```\n" + "code\n" * 60000,
    "deep_quotes": "> " * 500 + "deep",
    "deep_lists": "\n".join("  " * depth + "* item" for depth in range(200)),
    "many_marks": "*_`~[](" * 2000,
}

HEADER_VALUES: tuple[str, ...] = (
    "",
    " ",
    "=",
    "sha256=",
    "sha256",
    "sha1=" + "0" * 40,
    "sha256=" + "0" * 64,
    "0" * 64,
    "g" * 64,
    "sha256=" + "g" * 64,
    "\u00fc" * 64,
    "sha256=" + "\u00fc" * 64,
    "\udcff" * 64,
    "\u0660" * 64,
    "\x00" * 64,
    "sha256=\x00",
    "v1,,,=",
    "Basic \u00ff",
    "Bearer",
    "null",
    "-1",
    "9" * 5000,
    "a" * 200_000,
    '{"signature": []}',
)

BODIES: tuple[bytes, ...] = (
    b"",
    b" ",
    b"\x00",
    b"\xff\xfe\xfd",
    b"\xef\xbb\xbf{}",
    b"null",
    b"true",
    b"0",
    b"-0.0",
    b"1e999",
    b"NaN",
    b"[NaN, Infinity]",
    b"1" * 5000,
    b'""',
    b'"text"',
    b'"\\ud800"',
    b"[]",
    b"[[[]]]",
    b"{}",
    b'{"": ""}',
    b'{"action": null, "issue": null, "repository": null, "sender": null}',
    b'{"action": "closed", "issue": {}, "repository": {}, "sender": {}}',
    b'{"action": ["closed"], "issue": [], "repository": [], "sender": []}',
    b'{"webhookEvent": "jira:issue_updated", "issue": {"fields": {}}}',
    b'{"webhookEvent": {}, "issue": {"id": {}, "key": {}, "fields": []}}',
    b'{"a": 1, "a": 2}',
    b"payload=%7B%7D",
    b"<xml/>",
    b"not json",
    b'{"cut": ',
    b"[" * 100_000,
    b'{"issue":' * 50_000,
    b"[" + b"[]," * 100_000 + b"[]]",
    '{"title": "\u00fc"}'.encode("utf-16"),
)

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    float("nan"),
    "",
    "x",
    "\ud800\x00",
    "x" * 10_000,
    "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00+14:00",
    [],
    [None],
    [[]],
    {},
    {"id": None},
)


def mutations(body: bytes) -> Iterator[bytes]:
    """Yield a genuine JSON body with one defect at a time: each value replaced by each hostile value, each key
    removed.

    A body that is no JSON object is only cut.
    """
    for part in range(1, 20):
        yield body[: len(body) * part // 20]
    try:
        whole = json.loads(body)
    except ValueError:
        return
    for path in _paths(whole):
        for value in VALUES:
            yield json.dumps(_with(whole, path, value)).encode()
        yield json.dumps(_without(whole, path)).encode()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    entries: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value[:2]))
    for key, inner in entries:
        yield from _paths(inner, (*path, key))


def _with(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    result = copy.deepcopy(whole)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def _without(whole: Any, path: tuple[Any, ...]) -> Any:
    result = copy.deepcopy(whole)
    place = result
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return result
