"""The settings of a Jira destination."""

from __future__ import annotations

import base64
import re
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from pointsman.plugin_api import PluginSettings, Secret

_PROJECT_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")


class JiraSettings(PluginSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Jira Cloud project, and the account that writes there."""

    url: Annotated[str, msgspec.Meta(description="The site, such as https://example.atlassian.net")]
    email: Annotated[str, msgspec.Meta(description="The address of the account that owns the token")]
    api_token: Annotated[Secret, msgspec.Meta(description="An API token of that account")]
    project_key: Annotated[str, msgspec.Meta(description="The project's key, such as OPS")]
    issue_type: Annotated[str, msgspec.Meta(description="The name of the issue type")] = "Bug"
    labels: Annotated[tuple[str, ...], msgspec.Meta(description="Labels of every issue made here")] = ()
    api_url: Annotated[
        str,
        msgspec.Meta(
            description="For tokens with scopes: https://api.atlassian.com/ex/jira/ and the cloud id; else empty"
        ),
    ] = ""
    closed_status: Annotated[
        str,
        msgspec.Meta(description="The status or transition to prefer when closing; empty: any that is done"),
    ] = ""
    open_status: Annotated[
        str,
        msgspec.Meta(
            description="The status or transition to prefer when reopening; empty: any that is open"
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Refuse what can't be."""
        for name, address in (("url", self.url), ("api_url", self.api_url)):
            if (address or name == "url") and not _is_base(address):
                raise ValueError(f"{name} must be an address such as https://example.atlassian.net")
        if not self.email.strip() or ":" in self.email or not self.email.isprintable():
            raise ValueError("email must be the address of the account that owns the token")
        if not self.api_token.reveal().strip():
            raise ValueError("api_token is empty")
        if not _PROJECT_KEY.fullmatch(self.project_key):
            raise ValueError("project_key must be the letters before the number of an issue, such as OPS")
        if not self.issue_type.strip():
            raise ValueError("issue_type must be the name of an issue type, such as Bug")

    @property
    def site(self) -> str:
        """The address that people open."""
        return self.url.rstrip("/")

    @property
    def base(self) -> str:
        """The address that calls go to."""
        return (self.api_url or self.url).rstrip("/")

    @property
    def project(self) -> str:
        """The key as Jira writes it."""
        return self.project_key.upper()

    @property
    def authorization(self) -> Secret:
        """The value of the Authorization header.

        https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/
        """
        pair = f"{self.email.strip()}:{self.api_token.reveal().strip()}"
        return Secret("Basic " + base64.b64encode(pair.encode()).decode())


def _is_base(address: str) -> bool:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain and " " not in address
