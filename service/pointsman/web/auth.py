"""Who asks: tokens in the path, as bearer, or as the password of Basic authentication."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from aiohttp import web

from pointsman.crypto import digest_matches, token_digest, token_matches
from pointsman.plugin_host.snapshot import LiveSource
from pointsman.web.problems import Problem, unauthorized
from pointsman.web.services import Context, context


@dataclass(slots=True, frozen=True)
class Principal:
    """Who asks: the operators (no source), or an application through its source."""

    source: LiveSource | None

    @property
    def admin(self) -> bool:
        """Whether everything may be read and operated."""
        return self.source is None


def bearer(request: web.Request) -> str:
    """The bearer token, empty if there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def basic_password(request: web.Request) -> str:
    """The password of Basic authentication, empty if there is none."""
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
    """The source whose token came along; one 401 for an unknown source and a wrong token alike."""
    slug = request.match_info["source"]
    token = request.match_info.get("token", "") or bearer(request) or basic_password(request)
    source = context(request).catalog.current.sources.get(slug)
    matches = token_matches(token, source.digests if source is not None else ())
    if source is None or not matches:
        raise unauthorized("unknown source" if source is None else "wrong token")
    return source


def is_admin(ctx: Context, token: str) -> bool:
    """Whether a token is the operators'."""
    return _is_admin(ctx, token_digest(token))


def _is_admin(ctx: Context, made: bytes | None) -> bool:
    wanted = ctx.settings.admin_token_sha256
    return digest_matches(made, (wanted,) if wanted is not None else ())


def principal(request: web.Request) -> Principal:
    """Who asks the API. The token of a source that can only add reports gets 403."""
    ctx = context(request)
    token = bearer(request)
    made = token_digest(token)
    admin = _is_admin(ctx, made)
    found = [
        source for source in ctx.catalog.current.sources.values() if digest_matches(made, source.digests)
    ]
    if admin:
        return Principal(None)
    if not found:
        raise unauthorized("unknown token" if token else "no bearer token")
    owners = [source for source in found if source.owns_tickets]
    if not owners:
        raise Problem("forbidden", "this source's token can only add reports")
    return Principal(owners[0])
