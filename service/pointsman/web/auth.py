"""Authentication: tokens in the path, as bearer token, or as the password of Basic authentication."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from aiohttp import web

from pointsman.crypto import digest_matches, token_digest, token_matches
from pointsman.plugin_host.instances import LiveSource
from pointsman.web.middleware import add_log_fields
from pointsman.web.problems import Problem, unauthorized
from pointsman.web.services import Services, services_of


@dataclass(slots=True, frozen=True)
class Principal:
    """The authenticated caller: the operators (no source), or an application through its source."""

    source: LiveSource | None

    @property
    def is_operator(self) -> bool:
        """Whether the caller may read and do everything."""
        return self.source is None

    @property
    def name(self) -> str:
        """Name of the caller in events."""
        return self.source.slug if self.source is not None else "operator"


def bearer(request: web.Request) -> str:
    """Return the bearer token, empty if there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def basic_password(request: web.Request) -> str:
    """Return the password of Basic authentication, empty if there is none."""
    scheme, _, coded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return (
            base64.b64decode(coded.strip().encode("ascii"), validate=True).decode("utf-8").partition(":")[2]
        )
    except (binascii.Error, UnicodeError):
        return ""


def source_for_intake(request: web.Request) -> LiveSource:
    """Return the source whose token was sent. Raises the same 401 for an unknown source and for a wrong token."""
    slug = request.match_info["source"]
    token = request.match_info.get("token", "") or bearer(request) or basic_password(request)
    source = services_of(request).config.current.sources.get(slug)
    matches = token_matches(token, source.digests if source is not None else ())
    if source is not None:
        add_log_fields(request, source=source.slug)
    if source is None or not matches:
        raise unauthorized("unknown source" if source is None else "wrong token")
    return source


def is_operator_token(services: Services, token: str) -> bool:
    """Return whether a token is the operators' token."""
    return _is_operator_digest(services, token_digest(token))


def _is_operator_digest(services: Services, digest: bytes | None) -> bool:
    expected = services.settings.admin_token_sha256
    return digest_matches(digest, (expected,) if expected is not None else ())


def authenticate(request: web.Request) -> Principal:
    """Return the caller of the API. Raises 403 for the token of a source that can only add reports."""
    services = services_of(request)
    token = bearer(request)
    digest = token_digest(token)
    is_operator = _is_operator_digest(services, digest)
    sources = [
        source
        for source in services.config.current.sources.values()
        if digest_matches(digest, source.digests)
    ]
    if is_operator:
        return Principal(None)
    if not sources:
        raise unauthorized("unknown token" if token else "no bearer token")
    owners = [source for source in sources if source.owns_tickets]
    if not owners:
        raise Problem("forbidden", "this source's token can only add reports")
    return Principal(owners[0])
