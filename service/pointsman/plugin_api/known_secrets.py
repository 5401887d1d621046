"""Mask the secrets that this process knows in texts that come from outside.

A tracker's error message can contain the credential itself: Forgejo's 401 quotes the token that was sent. Every living
``Secret`` is known here, without being kept alive.
"""

from __future__ import annotations

import base64
import json
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol
from urllib.parse import quote, quote_plus

MIN_CHARACTERS = 8
"""Shorter secrets occur in many texts by chance, where masking them would only do harm."""
MASK = "***"


class _Revealable(Protocol):
    def reveal(self) -> str: ...


class _KnownSecrets:
    """The living secrets, and the forms in which they are searched for."""

    def __init__(self) -> None:
        # by identity: an equal secret must not disappear together with the one that was registered first
        self._secrets: weakref.WeakValueDictionary[int, _Revealable] = weakref.WeakValueDictionary()
        self._forms: tuple[str, ...] = ()
        self._outdated = False
        self.on_change: list[Callable[[], None]] = []

    def add(self, secret: _Revealable) -> None:
        if len(secret.reveal()) < MIN_CHARACTERS:
            return
        self._secrets[id(secret)] = secret
        self._outdated = True
        for callback in self.on_change:
            callback()

    def forms(self) -> tuple[str, ...]:
        if self._outdated:
            self._outdated = False
            self._forms = forms_of(secret.reveal() for secret in list(self._secrets.values()))
        return self._forms


_KNOWN = _KnownSecrets()
add = _KNOWN.add


def on_change(callback: Callable[[], None]) -> None:
    """Call a function whenever a secret becomes known, to drop what was masked without it."""
    _KNOWN.on_change.append(callback)


def mask_secrets(text: str, extra: Iterable[str] = ()) -> str:
    """Return text in which each known secret is replaced, also if it is URL-encoded, in base64 or escaped as in JSON.

    ``extra``: forms of further secrets, as ``forms_of`` returns them.
    """
    if len(text) < MIN_CHARACTERS:
        return text
    for form in (*extra, *_KNOWN.forms()):
        if form in text:
            text = text.replace(form, MASK)
    return text


def forms_of(secrets: Iterable[str]) -> tuple[str, ...]:
    """Return the forms in which secrets may occur in a text, the longest first."""
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) >= MIN_CHARACTERS:
            forms |= _forms(secret)
            forms |= _forms(secret.strip())
    return tuple(sorted((form for form in forms if len(form) >= MIN_CHARACTERS), key=lambda form: -len(form)))


def _forms(secret: str) -> set[str]:
    encoded = secret.encode("utf-8", "surrogateescape")
    urls = {quote(encoded, safe=""), quote(encoded), quote_plus(encoded)}
    escaped = json.dumps(secret)[1:-1]
    forms = {secret, escaped, escaped.replace("/", "\\/"), *urls, *(_lower_case_escapes(url) for url in urls)}
    for offset in range(3):
        # the middle of the base64 form of any text that contains the secret at this offset, such as "user:secret"
        inner = base64.b64encode(b"\0" * offset + encoded).decode().rstrip("=")
        end = len(inner) - (1 if (offset + len(encoded)) % 3 else 0)
        inner = inner[offset + 1 if offset else 0 : end]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


def _lower_case_escapes(url: str) -> str:
    first, *escapes = url.split("%")
    return "%".join([first, *(escape[:2].lower() + escape[2:] for escape in escapes)])
