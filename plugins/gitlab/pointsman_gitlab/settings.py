"""The settings of one GitLab destination."""

from __future__ import annotations

import re
import urllib.parse
from typing import Annotated

import msgspec

from pointsman.plugin_api import PluginSettings, Secret

_PROJECT = re.compile(r"[0-9]+|[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)+", re.ASCII)


class GitLabSettings(PluginSettings, frozen=True, kw_only=True):
    """Settings of one destination: one project on one GitLab server."""

    url: Annotated[str, msgspec.Meta(description="Address of the server")] = "https://gitlab.com"
    token: Annotated[Secret, msgspec.Meta(description="Access token with the scope api")]
    project: Annotated[str, msgspec.Meta(description="group/project, or the project's id as text")]
    labels: Annotated[tuple[str, ...], msgspec.Meta(description="Labels of every issue, by name")] = ()
    assignees: Annotated[
        tuple[str, ...], msgspec.Meta(description="Usernames that every issue is assigned to")
    ] = ()
    confidential: Annotated[bool, msgspec.Meta(description="Whether issues are made confidential")] = False

    def __post_init__(self) -> None:
        """Refuse unusable values and say what to write instead."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", self.url):
            raise ValueError(f"url {self.url!r} is no web address: write it like https://gitlab.com")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("url holds more than an address: write the credential into `token`")
        if not _PROJECT.fullmatch(self.project):
            raise ValueError(
                f"project {self.project!r} is neither group/project nor an id: write it like acme/shop, without a host"
            )
        token = self.token.reveal().strip()
        if not token:
            raise ValueError("token is empty: make one with the scope api, under Access tokens")
        if not re.fullmatch(r"[!-~]+", token):
            raise ValueError("token holds a space or a letter no token has: copy it anew")
        if odd := [label for label in self.labels if not label.strip() or "," in label or len(label) > 255]:
            raise ValueError(f"label {odd[0]!r} can't be: a name without commas, 255 characters at most")
        if odd := [name for name in self.assignees if not re.fullmatch(r"[\w.-]+", name, re.ASCII)]:
            raise ValueError(f"assignee {odd[0]!r} is no username: write it without @")

    @property
    def base(self) -> str:
        """Return the server's URL without what people copy along."""
        return self.url.rstrip("/").removesuffix("/api/v4").rstrip("/")

    @property
    def project_path(self) -> str:
        """Return the project as a part of an API path: its slashes are escaped."""
        return f"/projects/{urllib.parse.quote(self.project, safe='')}"
