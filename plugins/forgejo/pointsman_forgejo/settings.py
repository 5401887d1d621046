"""The settings of a Forgejo destination."""

from __future__ import annotations

import re
import urllib.parse
from typing import Annotated

import msgspec

from pointsman.plugin_api import PluginSettings, Secret
from pointsman_forgejo import wire

_REPOSITORY = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9._-]+/(?!\.{1,2}\Z)[A-Za-z0-9._-]+")


class ForgejoSettings(PluginSettings, frozen=True, kw_only=True):
    """Settings of one destination."""

    url: Annotated[str, msgspec.Meta(description="Address of the server, such as https://codeberg.org")]
    token: Annotated[
        Secret, msgspec.Meta(description="Access token with write:issue, read:user and read:repository")
    ]
    repository: Annotated[str, msgspec.Meta(description="owner/repo")]
    labels: Annotated[tuple[str, ...], msgspec.Meta(description="Labels of every issue, by name")] = ()
    create_labels: Annotated[bool, msgspec.Meta(description="Whether missing labels are made")] = True
    assignees: Annotated[
        tuple[str, ...], msgspec.Meta(description="Logins that every issue is assigned to")
    ] = ()

    def __post_init__(self) -> None:
        """Refuse unusable values and say what to write instead."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", self.url):
            raise ValueError(f"url {self.url!r} is no web address: write it like https://codeberg.org")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "url holds more than an address: write the credential into `token`, and nothing after the path"
            )
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError(
                f"repository {self.repository!r} is not owner/repo: write it like acme/shop, without a host"
            )
        token = self.token.reveal().strip()
        if not token:
            raise ValueError(
                "token is empty: make one under Settings, Applications of the account that opens the issues"
            )
        if not re.fullmatch(r"[!-~]+", token):
            raise ValueError(
                "token holds a space or a letter no token has: copy it anew, without `token` before it"
            )
        for label in self.labels:
            if wire.label_names([label]) == ():
                raise ValueError(
                    f"label {label!r} is empty or too long: {wire.LABEL_CHARACTERS} characters at most"
                )
        if not all(name.strip() for name in self.assignees):
            raise ValueError("assignees holds an empty name: leave it out")
