"""Digests and signatures. All comparisons take constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping

MAX_WEBHOOK_SECRETS = 3
"""Most secrets of a destination. So many HMACs are made for each webhook, whether its destination exists or not."""
MIN_WEBHOOK_SECRET_BYTES = 16
"""Shorter secrets can be found by trying: an attacker who sees one signed webhook needs no further request."""
_NO_DIGEST = hashlib.sha256(b"no token").digest()
_DUMMY = b"compared so that an unknown name takes as long as a wrong signature"


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 digest, 32 bytes."""
    return hashlib.sha256(data).digest()


def hmac_sha256(secret: bytes, data: bytes) -> bytes:
    """Return the HMAC-SHA256, 32 bytes."""
    return hmac.new(secret, data, hashlib.sha256).digest()


def hex_digest(text: str | None) -> bytes | None:
    """Return 32 bytes from 64 hexadecimal digits, or None for any other text."""
    if text is None or len(text) != 64 or not text.isascii():
        return None
    try:
        return binascii.unhexlify(text)
    except ValueError:
        return None


def padded_secrets(secrets: Iterable[bytes]) -> list[bytes]:
    """Return secrets with empty ones added, up to MAX_WEBHOOK_SECRETS."""
    padded = list(secrets)
    return padded + [b""] * (MAX_WEBHOOK_SECRETS - len(padded))


def hmac_sha256_matches(data: bytes, signature: str | None, secrets: Iterable[bytes]) -> bool:
    """Return whether a hexadecimal HMAC-SHA256 was made over ``data`` with one of the secrets.

    Every secret is tried, an empty secret never matches, and a missing or malformed signature costs the same work as a wrong
    one. Up to MAX_WEBHOOK_SECRETS secrets cost the same, too. No input raises.
    """
    digest = hex_digest(signature)
    compared = digest if digest is not None else bytes(32)
    matches = False
    for secret in padded_secrets(secrets):
        expected = hmac_sha256(secret or _DUMMY, data)
        matches |= hmac.compare_digest(expected, compared) and bool(secret)
    return matches and digest is not None


class DiscardedBody:
    """Body of a webhook whose destination does not exist: its start is kept, and the rest costs time, but no memory.

    So the time until the response does not show whether a destination exists.
    """

    def __init__(self, kept_bytes: int) -> None:
        self.start = bytearray()
        self._kept_bytes = kept_bytes
        self._hmacs = [hmac.new(_DUMMY, digestmod=hashlib.sha256) for _ in range(MAX_WEBHOOK_SECRETS)]

    def accept(self, chunk: bytes) -> None:
        """Take the next bytes."""
        kept = self._kept_bytes - len(self.start)
        self.start += chunk[:kept]
        for digest in self._hmacs:
            digest.update(chunk[kept:])


# The library standardwebhooks (1.1.0) is not used: it decodes the body as UTF-8, raises other errors than its own on
# malformed headers, checks one secret at a time, and takes the clock from the system.

STANDARD_WEBHOOK_SECONDS = 300.0
"""Maximum age of a Standard Webhooks message, and the maximum time that it may be ahead of our clock."""


def standard_webhook_key(secret: str) -> bytes:
    """Return the key of a secret in the form ``whsec_`` and base64. Raises ValueError for any other form."""
    encoded = secret.strip().removeprefix("whsec_")
    try:
        key = base64.b64decode(encoded, validate=True)
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
    """Return whether one of the keys signed a recent Standard Webhooks message; header names are in lower case.

    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    # senders that sign with Svix use the older names: https://docs.svix.com/receiving/verifying-payloads/how-manual
    prefix = "webhook" if "webhook-id" in headers else "svix"
    message_id, timestamp = headers.get(f"{prefix}-id", ""), headers.get(f"{prefix}-timestamp", "")
    recent = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16
    if recent:
        now = time.time() if now is None else now
        recent = abs(now - int(timestamp)) <= STANDARD_WEBHOOK_SECONDS
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogateescape") + body
    signatures = [
        signature.partition(",")[2]
        for signature in headers.get(f"{prefix}-signature", "").split(" ")[:16]
        if signature[:3] == "v1,"
    ]
    matches = False
    for key in [*keys, b""]:
        expected = base64.b64encode(hmac_sha256(key or _DUMMY, signed))
        for signature in signatures or [""]:
            encoded = signature.encode("utf-8", "surrogateescape")
            matches |= hmac.compare_digest(expected, encoded) and bool(key)
    return matches and recent and bool(message_id)


def token_digest(token: str) -> bytes | None:
    """Return the SHA-256 of a token, or None for an empty token and for text that can't be encoded."""
    try:
        digest = sha256(token.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return None
    return digest if token else None


def digest_matches(digest: bytes | None, stored_digests: Iterable[bytes]) -> bool:
    """Return whether a token's digest is one of the stored ones; all are compared. None never matches."""
    matches = False
    for stored_digest in [*stored_digests, bytes(32)]:
        matches |= hmac.compare_digest(digest or _NO_DIGEST, stored_digest)
    return matches and digest is not None


def token_matches(token: str, stored_digests: Iterable[bytes]) -> bool:
    """Return whether the SHA-256 of a token is one of the stored digests. An empty token never matches."""
    return digest_matches(token_digest(token), stored_digests)
