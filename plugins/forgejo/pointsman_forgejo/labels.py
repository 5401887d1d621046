"""Labels: people write names, Forgejo wants ids."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pointsman.plugin_api import AuthFailed, PluginError, RateLimited, TrackerClient, Unavailable
from pointsman_forgejo import wire
from pointsman_forgejo.pages import read_pages

COLOUR = "#6b7280"
"""The grey of a label made by Pointsman; people change it as they like."""
_STOPS_THE_ISSUE_TOO = (Unavailable, AuthFailed, RateLimited)


class Labels:
    """The labels of one repository and of its organization, looked up by name and remembered."""

    def __init__(self, client: TrackerClient, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._ids: dict[str, int] = {}
        self._one_at_a_time = (
            asyncio.Lock()
        )  # Forgejo allows two labels of one name: do not race with ourselves

    async def ids(self, names: Sequence[str]) -> list[int]:
        """The ids of these labels, made where they are missing; without those that can't be had.

        An issue without a label is better than no issue. Only what would stop the issue as well is raised: no
        connection, no credential, a rate limit. Nothing was created then.
        """
        if not names:
            return []
        async with self._one_at_a_time:
            await self._look_up(names)
            for name in self.missing(names):
                await self._make(name)
        return [self._ids[name.casefold()] for name in names if name.casefold() in self._ids]

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are not known."""
        return [name for name in names if name.casefold() not in self._ids]

    def forget(self) -> None:
        """Look everything up anew next time: an id did not work."""
        self._ids.clear()

    async def look_up(self, names: Sequence[str]) -> None:
        """Find the ids of these names, as far as they exist."""
        async with self._one_at_a_time:
            await self._look_up(names)

    async def _look_up(self, names: Sequence[str]) -> None:
        """Ask the repository, and its organization for what the repository lacks."""
        owner = self._repository.partition("/")[0]
        for path in (f"/repos/{self._repository}/labels", f"/orgs/{owner}/labels"):
            if not self.missing(names):
                return
            try:
                found = await read_pages(self._client, path, {}, doing="read the labels")
            except _STOPS_THE_ISSUE_TOO:
                raise
            except PluginError:
                # 404: the owner is a person; 403: the token may not read organizations.
                continue
            for raw in found:
                name, number = raw.get("name"), raw.get("id")
                if isinstance(name, str) and isinstance(number, int):
                    self._ids.setdefault(name.casefold(), number)

    async def _make(self, name: str) -> None:
        """Make one label, if the account may."""
        body = {"name": name, "color": COLOUR}
        try:
            answer = await self._client.request("POST", f"/repos/{self._repository}/labels", json=body)
            if not answer.ok:
                raise wire.problem(answer, f"make the label {name!r}")
            made = answer.json()
        except _STOPS_THE_ISSUE_TOO:
            raise
        except PluginError:
            return
        if isinstance(made, dict) and isinstance(made.get("id"), int):
            self._ids[name.casefold()] = made["id"]
