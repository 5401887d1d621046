"""Digests and signatures: made here, compared here, always in constant time."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Iterable

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


def token_matches(token: str, digests: Iterable[bytes]) -> bool:
    """Whether the SHA-256 of a token is one of the kept digests. An empty token never matches."""
    try:
        made = sha256(token.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return False
    matches = False
    for digest in [*digests, bytes(32)]:
        matches |= hmac.compare_digest(made, digest)
    return matches and bool(token)
