"""The settings of a Jira destination."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from pointsman.plugin_api import CloseReason, PluginSettings, Secret
from pointsman_jira import templates

_PROJECT_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")
_OURS = {
    "project": "set project_key",
    "issuetype": "set issue_type",
    "summary": "it is the ticket's title",
    "description": "it is the ticket's text",
    "labels": "set labels",
}
_REASONS: Mapping[CloseReason, str] = {
    "completed": "Done",
    "not_planned": "Won't Do",
    "duplicate": "Duplicate",
}


class JiraSettings(PluginSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one destination: one project on a Jira site, and the account that writes there."""

    url: Annotated[str, msgspec.Meta(description="The site, such as https://example.atlassian.net")]
    email: Annotated[
        str, msgspec.Meta(description="The address of the account that owns the token; Jira Cloud only")
    ] = ""
    api_token: Annotated[
        Secret,
        msgspec.Meta(description="An API token of that account; a personal access token on Data Center"),
    ]
    project_key: Annotated[str, msgspec.Meta(description="The project's key, such as OPS")]
    deployment: Annotated[
        Literal["cloud", "data-center"], msgspec.Meta(description="Jira Cloud, or Jira Data Center")
    ] = "cloud"
    issue_type: Annotated[str, msgspec.Meta(description="The name of the issue type")] = "Bug"
    labels: Annotated[tuple[str, ...], msgspec.Meta(description="Labels of every issue made here")] = ()
    priority: Annotated[str, msgspec.Meta(description="The name of the priority; empty: Jira's default")] = ""
    assignee: Annotated[
        str,
        msgspec.Meta(description="The account id (Data Center: the user name) that issues are assigned to"),
    ] = ""
    fields: Annotated[
        dict[str, Any],
        msgspec.Meta(
            description="More fields of every issue made here, by their ids; texts may refer to the ticket"
        ),
    ] = msgspec.field(default_factory=dict)
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
    close_fields: Annotated[
        dict[str, Any],
        msgspec.Meta(description="Fields for the screen that Jira shows when an issue is closed"),
    ] = msgspec.field(default_factory=dict)
    reopen_fields: Annotated[
        dict[str, Any],
        msgspec.Meta(description="Fields for the screen that Jira shows when an issue is reopened"),
    ] = msgspec.field(default_factory=dict)
    close_reasons: Annotated[
        dict[CloseReason, str],
        msgspec.Meta(description="What completed, not_planned and duplicate are called here"),
    ] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse unusable values and say what to write instead."""
        for name, address in (("url", self.url), ("api_url", self.api_url)):
            if (address or name == "url") and not _is_base(address):
                raise ValueError(f"{name} must be an address such as https://example.atlassian.net")
        if self.is_cloud and (not self.email.strip() or ":" in self.email or not self.email.isprintable()):
            raise ValueError("email must be the address of the account that owns the token")
        if not self.is_cloud and self.api_url:
            raise ValueError("api_url is for Jira Cloud: leave it out for Data Center")
        token = self.api_token.reveal().strip()
        if not (token and token.isascii() and token.isprintable()):
            raise ValueError("api_token is empty, or not a token")
        if not _PROJECT_KEY.fullmatch(self.project_key):
            raise ValueError("project_key must be the letters before the number of an issue, such as OPS")
        if not self.issue_type.strip():
            raise ValueError("issue_type must be the name of an issue type, such as Bug")
        for reason, word in self.close_reasons.items():
            if not word.strip():
                raise ValueError(
                    f"close_reasons.{reason} must be the name of a resolution, status or transition"
                )
        self._check_fields()

    def _check_fields(self) -> None:
        for name, cure in _OURS.items():
            if name in self.fields:
                raise ValueError(f"fields.{name}: Pointsman fills this field itself; {cure}")
        for name in ("priority", "assignee"):
            if name in self.fields and getattr(self, name):
                raise ValueError(f"fields.{name}: {name} is set too; leave one of them out")
        templates.check("fields", self.fields)
        nothing: frozenset[str] = frozenset()
        templates.check("close_fields", self.close_fields, nothing)
        templates.check("reopen_fields", self.reopen_fields, nothing)

    @property
    def is_cloud(self) -> bool:
        """Return whether this is Jira Cloud."""
        return self.deployment == "cloud"

    @property
    def site(self) -> str:
        """Return the URL that people open."""
        return self.url.rstrip("/")

    @property
    def base(self) -> str:
        """Return the URL of the API."""
        return (self.api_url or self.url).rstrip("/")

    @property
    def project(self) -> str:
        """Return the key as Jira writes it."""
        return self.project_key.upper()

    @property
    def reasons(self) -> dict[CloseReason, str]:
        """Return the local name of each reason: a resolution, a status or a transition."""
        return {**_REASONS, **self.close_reasons}

    @property
    def authorization(self) -> Secret:
        """Return the value of the Authorization header.

        https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/ and, for Data Center,
        https://confluence.atlassian.com/enterprise/using-personal-access-tokens-1026032365.html
        """
        token = self.api_token.reveal().strip()
        if not self.is_cloud:
            return Secret(f"Bearer {token}")
        pair = f"{self.email.strip()}:{token}"
        return Secret("Basic " + base64.b64encode(pair.encode()).decode())

    @property
    def private(self) -> tuple[str, ...]:
        """Return the texts that no message may repeat."""
        texts = (
            self.authorization.reveal().partition(" ")[2],
            self.api_token.reveal().strip(),
            self.email.strip(),
        )
        return tuple(word for word in texts if word)


def _is_base(address: str) -> bool:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and plain and " " not in address
