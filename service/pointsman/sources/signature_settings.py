"""Settings and verification of signatures, shared by several source kinds. Pure except for the clock."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from pointsman.plugin_api import (
    PluginSettings,
    Secret,
    hmac_sha256_matches,
    standard_webhook_key,
    standard_webhook_matches,
)

SHORTEST_SECRET = 8


class SignedSettings(PluginSettings, frozen=True, kw_only=True):
    """Settings with the sender's signing secrets. Without a secret, only the token authenticates."""

    signing_secret: Annotated[
        Secret | None, Meta(description="The secret with which the sender signs; requires a signature")
    ] = None
    next_signing_secret: Annotated[
        Secret | None, Meta(description="A second valid secret, to change secrets without an interruption")
    ] = None

    def __post_init__(self) -> None:
        """Refuse secrets that are too short, and a second secret without a first."""
        for secret in (self.signing_secret, self.next_signing_secret):
            if secret is not None and len(secret.reveal()) < SHORTEST_SECRET:
                raise ValueError(
                    f"signing_secret has less than {SHORTEST_SECRET} characters: make a longer one"
                )
        if self.next_signing_secret is not None and self.signing_secret is None:
            raise ValueError("next_signing_secret comes beside signing_secret: set that first")

    def secrets(self) -> tuple[bytes, ...]:
        """Return the valid secrets."""
        configured = (self.signing_secret, self.next_signing_secret)
        return tuple(secret.reveal().encode() for secret in configured if secret is not None)


class AnySignedSettings(SignedSettings, frozen=True, kw_only=True):
    """Signing secrets with the form of the signature, for senders of any kind."""

    signature: Annotated[
        Literal["hmac", "standard-webhooks"],
        Meta(description="How the sender signs: HMAC-SHA256 of the body, or as Standard Webhooks do"),
    ] = "hmac"
    signature_header: Annotated[
        str, Meta(description="The header with the HMAC", pattern=r"^[A-Za-z0-9-]{1,100}$")
    ] = "X-Signature-256"
    signature_encoding: Annotated[
        Literal["hex", "base64"], Meta(description="The encoding of the HMAC in the header")
    ] = "hex"
    signature_prefix: Annotated[
        str, Meta(description="The prefix of the HMAC, such as sha256=", max_length=40)
    ] = ""

    def __post_init__(self) -> None:
        """Refuse secrets that do not fit the form of the signature."""
        super().__post_init__()
        if self.signature == "standard-webhooks":
            for name in ("signing_secret", "next_signing_secret"):
                secret: Secret | None = getattr(self, name)
                if secret is not None:
                    try:
                        standard_webhook_key(secret.reveal())
                    except ValueError as error:
                        raise ValueError(f"{name} {error}") from None

    def verify(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Return whether the body has a valid signature; always true without a secret."""
        secrets = self.secrets()
        if not secrets:
            return True
        if self.signature == "standard-webhooks":
            keys = [standard_webhook_key(secret.decode()) for secret in secrets]
            return standard_webhook_matches(headers, body, keys)
        signature = headers.get(self.signature_header.lower(), "").strip()
        there = signature.startswith(self.signature_prefix)
        digits = signature.removeprefix(self.signature_prefix)
        if self.signature_encoding == "base64":
            digits = _base64_to_hex(digits)
        return hmac_sha256_matches(body, digits, secrets) and there


def _base64_to_hex(coded: str) -> str:
    try:
        return base64.b64decode(coded, validate=True).hex()
    except (binascii.Error, ValueError):
        return ""
