"""Test signatures of Standard Webhooks: what matches and what does not."""

from __future__ import annotations

import base64

import pytest

from pointsman.crypto import (
    STANDARD_WEBHOOK_SECONDS,
    hmac_sha256,
    standard_webhook_key,
    standard_webhook_matches,
)

KEY, OTHER = b"k" * 24, b"o" * 24
NOW = 1_800_000_000
BODY = b'{"a": 1}'


def signature(key: bytes = KEY, message_id: str = "msg", at: str = str(NOW), body: bytes = BODY) -> str:
    digest = hmac_sha256(key, f"{message_id}.{at}.".encode("utf-8", "surrogateescape") + body)
    return "v1," + base64.b64encode(digest).decode()


def headers(signed: str, message_id: str = "msg", at: str = str(NOW)) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": signed}


def matches(message: dict[str, str], *keys: bytes, body: bytes = BODY, now: float = NOW) -> bool:
    return standard_webhook_matches(message, body, keys or (KEY,), now=now)


def test_what_was_signed_matches_and_what_was_changed_does_not():
    right = headers(signature())
    assert matches(right) is True
    assert matches(right, OTHER, KEY) is True
    assert matches(right, OTHER) is False
    assert matches(right, body=BODY + b" ") is False
    assert matches(right | {"webhook-id": "other"}) is False
    assert matches(right | {"webhook-timestamp": str(NOW + 1)}) is False
    assert matches({}) is False


@pytest.mark.parametrize("key", [b"", b"compared so that an unknown name takes as long as a wrong signature"])
def test_an_empty_key_matches_nothing(key: bytes):
    assert matches(headers(signature(key or KEY)), b"") is False


def test_a_message_without_an_id_is_none():
    assert matches(headers(signature(message_id=""), message_id="")) is False


@pytest.mark.parametrize("off", [0, STANDARD_WEBHOOK_SECONDS, -STANDARD_WEBHOOK_SECONDS])
def test_five_minutes_on_either_side_are_near_enough(off: float):
    assert STANDARD_WEBHOOK_SECONDS == 300.0
    assert matches(headers(signature()), now=NOW + off) is True
    further = off + (1 if off > 0 else -1)
    assert matches(headers(signature()), now=NOW + further) is (off == 0)


@pytest.mark.parametrize(
    "at", ["", "x", "-1", "1.5", "\u0661\u0662", "\u00b2", "9" * 5000, "0" * 6 + str(NOW), " 1"]
)
def test_a_time_that_is_no_plain_number_never_matches_and_never_raises(at: str):
    assert matches(headers(signature(at=at), at=at), now=NOW) is False


def test_a_time_may_have_leading_noughts_up_to_15_digits():
    at = str(NOW).zfill(15)
    assert matches(headers(signature(at=at), at=at)) is True


def test_sixteen_signatures_are_looked_at():
    wrong = signature(OTHER)
    assert matches(headers(" ".join([wrong] * 15 + [signature()]))) is True
    assert matches(headers(" ".join([wrong] * 16 + [signature()]))) is False
    assert matches(headers(signature().replace("v1,", "v2,"))) is False
    assert matches(headers(f"v1a,x {signature()}")) is True


@pytest.mark.parametrize(("length", "good"), [(15, False), (16, True), (128, True), (129, False)])
def test_a_key_has_16_to_128_bytes(length: int, good: bool):
    secret = "whsec_" + base64.b64encode(b"k" * length).decode()
    if good:
        assert standard_webhook_key(secret) == b"k" * length
        assert standard_webhook_key(f" {secret.removeprefix('whsec_')}\n") == b"k" * length
    else:
        with pytest.raises(ValueError, match="16"):
            standard_webhook_key(secret)


@pytest.mark.parametrize("secret", ["whsec_%%%", "no key", "whsec_" + "A" * 31, "whsec_\u00e4"])
def test_what_is_no_base64_is_no_key(secret: str):
    with pytest.raises(ValueError, match="whsec_"):
        standard_webhook_key(secret)
    coded = base64.b64encode(b"k" * 24).decode()
    with pytest.raises(ValueError, match="whsec_"):
        standard_webhook_key(f"whsec_{coded[:8]}!{coded[8:]}")
