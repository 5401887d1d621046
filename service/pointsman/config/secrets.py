"""Resolve secrets of the configuration: references to the environment or files, or values sealed with our keys."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from pointsman.crypto import hmac_sha256
from pointsman.errors import ConfigError
from pointsman.plugin_api import Secret


class Vault:
    """Resolver of secret references and sealer of literal secrets. Without keys it cannot seal."""

    def __init__(self, keys: Sequence[Secret], environ: Mapping[str, str] = os.environ) -> None:
        self._keys = keys
        self._environ = environ
        self._fernet = MultiFernet([Fernet(key.reveal()) for key in keys]) if keys else None
        self._resolved: set[Secret] = set()

    def seal(self, secret: str) -> dict[str, str]:
        """Encrypt a secret with the newest key, for storage in the database.

        A keyed digest beside it shows whether a secret changed.
        """
        if self._fernet is None:
            raise ValueError(
                "a literal secret is kept encrypted, and there is no key: set POINTSMAN_SECRET_KEYS (make one with"
                ' `pointsman generate-key`), or write { env = "NAME" } or { file = "/path" } instead'
            )
        return {
            "sealed": self._fernet.encrypt(secret.encode()).decode(),
            "digest": hmac_sha256(self._keys[0].reveal().encode(), secret.encode()).hex()[:32],
        }

    def resolve(self, reference: Mapping[str, str]) -> Secret:
        """Return the secret that a reference points to. Raises ValueError with the cure.

        The vault keeps it, so that it is masked for as long as the process runs.
        """
        secret = self._resolve(reference)
        self._resolved.add(secret)
        return secret

    def _resolve(self, reference: Mapping[str, str]) -> Secret:
        if name := reference.get("env"):
            value = self._environ.get(name, "").strip()
            if not value:
                raise ValueError(f"the environment has no {name}: set it, or name another variable")
            return Secret(value)
        if path := reference.get("file"):
            try:
                value = Path(path).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"{path} can't be read ({error}): mount it, or name another file") from None
            if not value:
                raise ValueError(f"{path} is empty: put the secret into it")
            return Secret(value)
        if sealed := reference.get("sealed"):
            if self._fernet is None:
                raise ValueError(
                    "a sealed secret needs POINTSMAN_SECRET_KEYS: set the keys it was sealed with"
                )
            try:
                return Secret(self._fernet.decrypt(sealed.encode()).decode())
            except InvalidToken:
                raise ValueError(
                    "a sealed secret does not open with POINTSMAN_SECRET_KEYS: add the key it was sealed with, or"
                    " apply the configuration anew"
                ) from None
        raise ValueError("is no secret: write a text, { env = ... } or { file = ... }")


def key_file(data_dir: Path) -> tuple[Secret, ...]:
    """Return the key of the data directory's key file; create the file at first use. Raises ConfigError."""
    path = data_dir / "secret.key"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(handle, "wb") as file:
                file.write(Fernet.generate_key() + b"\n")
        key = path.read_text("ascii").strip()
        Fernet(key)
    except (OSError, ValueError) as error:
        raise ConfigError(
            [f"POINTSMAN_SECRET_KEYS: not set, and {path} can't be used ({error}); set the variable"]
        ) from None
    return (Secret(key),)


def is_reference(value: Any) -> bool:
    """Return whether a configured value is a reference to a secret."""
    return isinstance(value, dict) and bool(value.keys() & {"env", "file", "sealed", "sha256"})


def decode_secret(kind: type, value: Any) -> Any:
    """Decode a Secret from a Secret or a text; a ``dec_hook`` for msgspec."""
    if kind is Secret and isinstance(value, Secret):
        return value
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if kind is Secret:
        raise ValueError("Expected a text")
    raise NotImplementedError(kind)


def secret_fields(settings: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of the secret fields of a plugin's settings."""
    names = set()
    for field in msgspec.structs.fields(settings):
        if _is_secret(field.type):
            names.add(field.name)
    return frozenset(names)


def _is_secret(kind: Any) -> bool:
    """Return whether a type is Secret or contains it, such as an optional or annotated Secret."""
    return kind is Secret or any(_is_secret(inner) for inner in getattr(kind, "__args__", ()))
