"""Test signatures: no input raises, and only the right signature matches."""

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman import plugin_api
from pointsman.crypto import (
    MAX_WEBHOOK_SECRETS,
    hex_digest,
    hmac_sha256,
    hmac_sha256_matches,
    sha256,
    token_matches,
)

QUICK = settings(deadline=None, max_examples=50)

# https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
SECRET, BODY = b"It's a Secret to Everybody", b"Hello, World!"
GITHUB = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_the_documented_signature_of_github_matches():
    assert hmac_sha256_matches(BODY, GITHUB, [SECRET])


def test_plugins_get_the_same_function():
    assert plugin_api.hmac_sha256_matches is hmac_sha256_matches


@pytest.mark.parametrize(
    ("secret", "data", "digest"),
    [  # RFC 4231, test cases 1 to 3
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    ],
)
def test_the_vectors_of_the_rfc_match(secret, data, digest):
    assert hmac_sha256(secret, data).hex() == digest
    assert hmac_sha256_matches(data, digest, [secret])


@pytest.mark.parametrize(
    "signature",
    [
        *(
            None,
            "",
            " ",
            "0" * 64,
            "0" * 63,
            GITHUB[:-1],
            GITHUB + "0",
            f"sha256={GITHUB}",
            f" {GITHUB[:-1]}",
        ),
        *(
            GITHUB[:-1] + "g",
            "é" * 64,
            "\udc80" * 64,
            "\ud800" * 64,
            "\x00" * 64,
            "٣" * 64,
            GITHUB[:-2] + "٣٣",
        ),
    ],
)
def test_a_missing_or_malformed_signature_never_matches(signature):
    assert not hmac_sha256_matches(BODY, signature, [SECRET])
    assert not hmac_sha256_matches(BODY, signature, [])


def test_one_changed_byte_anywhere_is_found():
    assert not hmac_sha256_matches(BODY + b" ", GITHUB, [SECRET])
    assert not hmac_sha256_matches(BODY, GITHUB, [SECRET + b" "])
    assert not hmac_sha256_matches(BODY, f"{GITHUB[:-1]}6", [SECRET])


def test_any_of_several_secrets_will_do():
    """While a secret is being changed, the old and the new one are valid."""
    assert hmac_sha256_matches(BODY, GITHUB, [b"old", SECRET])
    assert hmac_sha256_matches(BODY, GITHUB, [SECRET, b"new"])
    assert hmac_sha256_matches(BODY, GITHUB, iter([SECRET]))
    assert not hmac_sha256_matches(BODY, GITHUB, [b"old", b"new"])


def test_every_secret_is_tried_even_after_one_matched(monkeypatch):
    """The time must not tell which secret it was, nor that there is none."""
    tried = []

    def count(secret, data):
        tried.append(secret)
        return hmac_sha256(secret, data)

    monkeypatch.setattr("pointsman.crypto.hmac_sha256", count)
    for signature, secrets in ((GITHUB, [SECRET, b"b"]), ("", [SECRET, b"b"]), (GITHUB, [])):
        tried.clear()
        hmac_sha256_matches(BODY, signature, secrets)
        assert len(tried) == MAX_WEBHOOK_SECRETS


def test_an_empty_secret_matches_nothing():
    """A destination without a secret must not be open to whoever signs with nothing."""
    forged = hmac.new(b"", BODY, hashlib.sha256).hexdigest()
    assert not hmac_sha256_matches(BODY, forged, [b""])
    assert not hmac_sha256_matches(BODY, forged, [])
    assert hmac_sha256_matches(BODY, GITHUB, [b"", SECRET])


def test_what_is_compared_in_place_of_a_secret_is_no_secret():
    from pointsman.crypto import _DUMMY

    forged = hmac_sha256(_DUMMY, BODY).hex()
    assert not hmac_sha256_matches(BODY, forged, [])
    assert not hmac_sha256_matches(BODY, forged, [b""])


@QUICK
@given(st.binary(max_size=50), st.none() | st.text(), st.lists(st.binary(max_size=70), max_size=3))
def test_no_input_raises_or_matches_by_chance(data, signature, secrets):
    assert hmac_sha256_matches(data, signature, secrets) is False


@QUICK
@given(st.binary(max_size=50), st.binary(min_size=1, max_size=70), st.booleans())
def test_what_was_signed_matches_in_either_case_of_its_digits(data, secret, upper):
    signature = hmac_sha256(secret, data).hex()
    assert hmac_sha256_matches(data, signature.upper() if upper else signature, [secret])


@QUICK
@given(st.text())
def test_only_64_hexadecimal_digits_are_a_digest(text):
    assert hex_digest(text) is None
    assert hex_digest(hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()) is not None


@QUICK
@given(st.text(st.characters(exclude_categories=[]), max_size=20), st.binary(min_size=32, max_size=32))
def test_a_token_matches_its_own_digest_and_no_other(token, other):
    try:
        kept = sha256(token.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        kept = bytes(32)
        assert not token_matches(token, [kept, other])
        return
    assert token_matches(token, [other, kept]) is bool(token)
    assert not token_matches(token, [other])
    assert not token_matches(token, [])


def test_a_token_with_bytes_that_are_no_text_is_the_token_of_those_bytes():
    """Headers arrive with such bytes kept as lone surrogates."""
    assert token_matches(b"caf\xe9".decode("utf-8", "surrogateescape"), [sha256(b"caf\xe9")])
