"""Answers that cost nothing, and the one request that is recognised without being parsed."""

from __future__ import annotations

import re

from pointsman.web.problems import Problem, unavailable

_REPORT = re.compile(rb"POST /intake/[!-~]+ HTTP/1\.1\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n")
_CONNECTION = re.compile(rb"\r\nconnection:[ \t]*+(?!keep-alive[ \t]*\r\n)")
_ODD = (b"\r\ntransfer-encoding", b"\r\nexpect", b"\r\nupgrade", b"\r\ncontent-encoding", b"\r\n ", b"\r\n\t")
_REASONS = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _answer(problem: Problem, *, closes: bool) -> bytes:
    response = problem.response()
    body = response.body
    assert isinstance(body, bytes)
    lines = [
        f"HTTP/1.1 {problem.status} {_REASONS[problem.status]}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
        *(["Connection: close"] if closes else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


RESPONSES = {
    408: _answer(Problem("timeout", "the head of the request was not there in time"), closes=True),
    431: _answer(Problem("head-too-large", "the head of the request is too long"), closes=True),
    503: _answer(unavailable("too many connections"), closes=True),
}
"""What is said before a connection is closed."""

SHED_RESPONSE = _answer(unavailable("too much waits already"), closes=False)
"""What a report is told that was not even looked at; the connection goes on."""


def report_length(data: bytes) -> tuple[int, int] | None:
    """Where the head of a plain report ends and how long its body is; None for whatever is not quite plain.

    Used under overload only, where a refusal must cost a small part of what a report costs. All doubt goes to the
    HTTP parser.
    """
    if _REPORT.match(data) is None:
        return None
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[: end + 2].lower()
    lengths = _LENGTH.findall(head)
    if len(lengths) != 1 or head.count(b"content-length") != 1:
        return None
    if _CONNECTION.search(head) or any(odd in head for odd in _ODD):
        return None
    return end + 4, int(lengths[0])
