"""Digests and signatures: made here, compared here, always in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping

_NO_DIGEST = hashlib.sha256(b"no token").digest()
_DUMMY = b"compared so that an unknown name takes as long as a wrong signature"


def sha256(data: bytes) -> bytes:
    """The 32-byte SHA-256 digest of some bytes."""
    return hashlib.sha256(data).digest()


def hmac_sha256(secret: bytes, data: bytes) -> bytes:
    """The 32-byte HMAC-SHA256 of some bytes."""
    return hmac.new(secret, data, hashlib.sha256).digest()


def hex_digest(text: str | None) -> bytes | None:
    """32 bytes from 64 hexadecimal digits, or None for anything else, whatever it holds."""
    if text is None or len(text) != 64 or not text.isascii():
        return None
    try:
        return binascii.unhexlify(text)
    except ValueError:
        return None


def hmac_sha256_matches(data: bytes, signature: str | None, secrets: Iterable[bytes]) -> bool:
    """Whether a hexadecimal HMAC-SHA256 was made over these bytes with one of the secrets.

    Every secret is tried, an empty secret never matches, and a missing or malformed signature costs the
    same work as a wrong one. No input raises.
    """
    given = hex_digest(signature)
    wanted = given if given is not None else bytes(32)
    matches = False
    for secret in [*secrets, b""]:
        made = hmac_sha256(secret or _DUMMY, data)
        matches |= hmac.compare_digest(made, wanted) and bool(secret)
    return matches and given is not None


STANDARD_WEBHOOK_SECONDS = 300.0
"""So old or so far ahead a message by Standard Webhooks may be."""


def standard_webhook_key(secret: str) -> bytes:
    """The key in a secret that is written as ``whsec_`` and base64. Raises ValueError for one that is not."""
    coded = secret.strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(
            "is no signing secret: `whsec_` and base64, as `openssl rand -base64 32` makes it"
        ) from None
    if not 16 <= len(key) <= 128:
        raise ValueError(
            "has a key of less than 16 or more than 128 bytes; `openssl rand -base64 32` makes a good one"
        )
    return key


def standard_webhook_matches(
    headers: Mapping[str, str], body: bytes, keys: Iterable[bytes], *, now: float | None = None
) -> bool:
    """Whether one of the keys signed these bytes as Standard Webhooks do, lately; header names are lower case.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    said, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    fresh = at.isascii() and at.isdigit() and len(at) < 16
    if fresh:
        fresh = abs((time.time() if now is None else now) - int(at)) <= STANDARD_WEBHOOK_SECONDS
    signed = f"{said}.{at}.".encode("utf-8", "surrogateescape") + body
    given = [
        one.partition(",")[2]
        for one in headers.get("webhook-signature", "").split(" ")[:16]
        if one[:3] == "v1,"
    ]
    matches = False
    for key in [*keys, b""]:
        made = base64.b64encode(hmac_sha256(key or _DUMMY, signed))
        for one in given or [""]:
            matches |= hmac.compare_digest(made, one.encode("utf-8", "surrogateescape")) and bool(key)
    return matches and fresh and bool(said)


def token_digest(token: str) -> bytes | None:
    """The SHA-256 of a token; None for an empty one and for text that is no bytes."""
    try:
        made = sha256(token.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return None
    return made if token else None


def digest_matches(made: bytes | None, digests: Iterable[bytes]) -> bool:
    """Whether a token's digest is one of those kept; all are compared. None never matches."""
    matches = False
    for digest in [*digests, bytes(32)]:
        matches |= hmac.compare_digest(made or _NO_DIGEST, digest)
    return matches and made is not None


def token_matches(token: str, digests: Iterable[bytes]) -> bool:
    """Whether the SHA-256 of a token is one of the kept digests. An empty token never matches."""
    return digest_matches(token_digest(token), digests)
