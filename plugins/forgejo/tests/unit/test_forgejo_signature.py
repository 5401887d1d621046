"""Webhook calls: whether they are genuine."""

from __future__ import annotations

import hashlib
import hmac
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman_forgejo import ForgejoTracker

SECRET = b"a secret"
BODY = b'{"action":"closed"}'
HEX = hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""


def verify(headers, body=BODY, secrets=(SECRET,)):
    return ForgejoTracker.verify_webhook(headers, body, secrets)


def test_the_first_header_counts_of_forgejo_gitea_and_gogs():
    assert verify({"x-forgejo-signature": HEX})
    assert verify({"x-gitea-signature": HEX})
    assert verify({"x-gogs-signature": HEX})
    assert verify({"x-forgejo-signature": HEX, "x-gitea-signature": "x", "x-gogs-signature": "x"})
    assert verify({"x-gitea-signature": HEX, "x-gogs-signature": "x"})
    assert verify({"x-gitea-signature": HEX, "content-type": "application/json"})


def test_every_valid_secret_counts():
    assert verify({"x-forgejo-signature": HEX}, secrets=(b"new", SECRET))
    assert not verify({"x-forgejo-signature": HEX}, secrets=(b"new",))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-forgejo-signature": ""},
        {"x-forgejo-signature": "", "x-gitea-signature": HEX},
        {"x-forgejo-signature": f"sha256={HEX}"},
        {"x-forgejo-signature": HEX[:-1]},
        {"x-forgejo-signature": HEX + "0"},
        {"x-forgejo-signature": "ä" * 64},
        {"x-forgejo-signature": "\udcff" * 64},
        {"x-forgejo-signature": "0" * 1_000_000},
        {"x-hub-signature-256": f"sha256={HEX}"},
        {"x-forgejo-signature": "", "x-gitea-signature": "", "x-gogs-signature": HEX},
        {"x-github-signature": HEX},
        {"x-forgejo-signature": HEX, "content-type": "application/x-www-form-urlencoded"},
        {"x-forgejo-signature": HEX, "content-type": "Application/X-WWW-Form-URLEncoded; charset=utf-8"},
    ],
)
def test_anything_else_does_not_verify(headers):
    assert not verify(headers)


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", None])
def test_a_call_in_a_form_is_refused_although_its_payload_is_signed(content_type):
    form = urllib.parse.urlencode({"payload": BODY.decode()}).encode()
    headers = {"x-forgejo-signature": HEX} | ({"content-type": content_type} if content_type else {})
    assert not verify(headers, form)


def test_what_a_webhook_without_a_secret_sends_is_refused():
    headers = {"x-forgejo-signature": "", "x-gitea-signature": "", "x-hub-signature-256": "sha256="}
    assert not verify(headers)
    assert not verify(headers, secrets=(b"",))
    assert not verify(headers, secrets=(b"", SECRET))


def test_an_empty_secret_never_verifies():
    signed_with_nothing = hmac.new(b"", BODY, hashlib.sha256).hexdigest()
    assert not verify({"x-forgejo-signature": signed_with_nothing}, secrets=(b"",))
    assert not verify({"x-forgejo-signature": signed_with_nothing}, secrets=())


@calm
@given(
    st.dictionaries(st.sampled_from(["x-forgejo-signature", "x-gitea-signature", "content-type"]), st.text()),
    st.binary(),
)
def test_verifying_always_comes_to_a_decision(headers, body):
    assert verify(headers, body) is False


def test_the_id_of_a_call_is_in_its_header():
    assert ForgejoTracker.webhook_id({"x-forgejo-delivery": "one", "x-gitea-delivery": "two"}, b"") == "one"
    assert ForgejoTracker.webhook_id({"x-gitea-delivery": "two"}, b"") == "two"
    assert ForgejoTracker.webhook_id({"x-gogs-delivery": "three", "x-github-delivery": "4"}, b"") == "three"
    assert ForgejoTracker.webhook_id({"x-github-delivery": "4"}, b"") is None
    assert ForgejoTracker.webhook_id({}, b"") is None
