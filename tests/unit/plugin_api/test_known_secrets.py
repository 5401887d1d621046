"""Secrets that the process knows are masked in any text, in every usual encoding."""

from __future__ import annotations

import base64
import gc
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman import logs
from pointsman.config.secrets import Vault
from pointsman.plugin_api import AuthFailed, Secret
from pointsman.plugin_api.known_secrets import forms_of, mask_secrets
from pointsman.storage.destinations import Failure

CANARY = "canary/of+the tests=é1"


@pytest.mark.parametrize(
    "encoded",
    [
        CANARY,
        quote(CANARY),
        quote(CANARY, safe=""),
        quote_plus(CANARY),
        re.sub("%..", lambda escape: escape.group().lower(), quote(CANARY, safe="")),
        json.dumps(CANARY)[1:-1],
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode(),
        base64.b64encode(f"ann:{CANARY}".encode()).decode(),
        base64.b64encode(f"anna:{CANARY}".encode()).decode(),
        base64.b64encode(f"annab:{CANARY}:x".encode()).decode(),
    ],
)
def test_each_encoding_of_a_living_secret_is_masked(encoded):
    secret = Secret(CANARY)
    text = f"access token does not exist [sha: {encoded}]"
    masked = logs.scrub(text)
    assert encoded not in masked and "***" in masked
    assert masked.startswith("access token does not exist [sha: ") and masked.endswith("]")
    assert secret


def test_a_failure_of_a_plugin_has_no_secret():
    secret = Secret(CANARY)
    error = AuthFailed(f"no such token {CANARY}", status=401, excerpt=f"<p>{quote(CANARY)}</p>")
    failure = Failure.from_error(error)
    assert CANARY not in repr(failure) and quote(CANARY) not in repr(failure)
    assert secret


def test_a_secret_is_forgotten_with_its_last_object_and_not_before():
    first, second = Secret("twice-the-same-text"), Secret("twice-the-same-text")
    del first
    gc.collect()
    Secret("makes-the-registry-look-again")
    assert mask_secrets("twice-the-same-text") == "***"
    del second
    gc.collect()
    Secret("makes-the-registry-look-again")
    assert mask_secrets("twice-the-same-text") == "twice-the-same-text"


def test_a_short_line_is_masked_although_it_was_logged_before_the_secret_was_known():
    assert logs._scrub_short("late-known-secret") == "late-known-secret"
    secret = Secret("late-known-secret")
    assert logs._scrub_short("late-known-secret") == "***"
    assert secret


def test_a_secret_that_was_resolved_stays_known():
    vault = Vault([], {"TOKEN": "resolved-once-and-dropped"})
    vault.resolve({"env": "TOKEN"})
    gc.collect()
    Secret("makes-the-registry-look-again")
    assert mask_secrets("resolved-once-and-dropped") == "***"


def test_short_secrets_and_other_texts_stay():
    secret = Secret("short")
    assert mask_secrets("a short text, and pointsman") == "a short text, and pointsman"
    assert secret


@settings(deadline=None, max_examples=200)
@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9),
)
def test_base64_of_any_text_around_a_secret_shows_at_most_its_ends(secret, before, after):
    encoded = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    masked = mask_secrets(encoded, forms_of([secret]))
    assert masked != encoded
