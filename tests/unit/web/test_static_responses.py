"""Test which requests are recognised as plain reports without the HTTP parser."""

from __future__ import annotations

import json

import pytest

from pointsman.web import static_responses
from raw_http import request
from source_examples import alert

BODY = json.dumps(alert()).encode()


@pytest.mark.parametrize(
    "data",
    [
        request("/intake/shop/x", BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request("/webhooks/forgejo/x", BODY),
        request("/intake/shop/x", BODY, method="GET"),
        request("/intake/shop/x", BODY, "Transfer-Encoding: chunked"),
        request("/intake/shop/x", BODY, "Expect: 100-continue"),
        request("/intake/shop/x", BODY, "Connection: close"),
        request("/intake/shop/x", BODY, "Content-Encoding: gzip"),
        request("/intake/shop/x", BODY, f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY)}"),
        request("/intake/shop/x", BODY, f"content-length : {len(BODY)}"),
        request("/intake/shop/x", BODY, "X: y\r\n folded"),
        request("/intake/shop/x", BODY, "Content-Length: 0x10"),
        request("/intake/shop/x", BODY)[:50],
        b"",
    ],
)
def test_only_plain_reports_are_refused_unread(data):
    """Whatever is not quite plain goes to the HTTP parser."""
    assert static_responses.report_length(data) is None
    whole = request("/intake/shop/x", BODY, "Connection: keep-alive")
    assert static_responses.report_length(whole + data) == (len(whole) - len(BODY), len(BODY))
