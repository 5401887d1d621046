"""Labels: people write names, Forgejo wants ids."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pointsman.plugin_api import (
    ApiClient,
    AuthFailed,
    Misconfigured,
    PluginError,
    RateLimited,
    Unavailable,
)
from pointsman_forgejo.errors import problem
from pointsman_forgejo.pages import read_all

COLOUR = "#6b7280"
"""The grey of a label that Pointsman creates; people may change it."""
KEPT_SECONDS = 300.0
"""How long ids are cached: a label may be deleted, or created again with another id."""
REFUSED_SECONDS = 60.0
"""How long a refused label is not requested again."""
_STOPS_THE_ISSUE_TOO = (Unavailable, AuthFailed, RateLimited)


@dataclass(frozen=True, slots=True)
class ResolvedLabels:
    """The available labels: ids by name, and notes about those that are missing."""

    ids: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Labels:
    """The labels of one repository and of its organization, looked up by name and cached for some minutes."""

    def __init__(
        self,
        client: ApiClient,
        repository: str,
        *,
        create: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._repository = repository
        self._create = create
        self._clock = clock
        self._ids: dict[str, int] = {}
        self._folded: dict[str, int] = {}
        self._refused: dict[str, tuple[float, str]] = {}
        self._read_at = clock()
        # Forgejo allows two labels with one name: avoid a race between our own calls
        self._lock = asyncio.Lock()

    async def resolve(self, names: Sequence[str]) -> ResolvedLabels:
        """Return the ids of these labels, creating missing ones if allowed; a note for each label that is not
        available.

        An issue without a label is better than no issue. Only errors that would stop the issue as well are raised: no
        connection, no credential, a rate limit. Nothing was created then.
        """
        if not names:
            return ResolvedLabels()
        notes = []
        async with self._lock:
            unread = await self._look_up(names)
            for name in self.missing(names):
                why = unread or self._refusal(name) or await self._make(name)
                if why:
                    notes.append(f"label {name!r} left out: {why}")
        ids = ((name, self._id(name)) for name in names)
        return ResolvedLabels({name: number for name, number in ids if number is not None}, tuple(notes))

    async def look_up(self, names: Sequence[str]) -> str:
        """Look up the ids of existing labels. Return the reason if the labels can't be read."""
        async with self._lock:
            return await self._look_up(names)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return the names that are not known."""
        return [name for name in names if self._id(name) is None]

    def forget(self) -> None:
        """Clear the cache: an id did not work, or is old."""
        self._ids.clear()
        self._folded.clear()
        self._refused.clear()
        self._read_at = self._clock()

    def _id(self, name: str) -> int | None:
        return self._ids.get(name, self._folded.get(name.casefold()))

    def _keep(self, name: object, number: object) -> None:
        if isinstance(name, str) and isinstance(number, int):
            self._ids.setdefault(name, number)
            self._folded.setdefault(name.casefold(), number)

    def _refusal(self, name: str) -> str:
        """Return why the label was refused recently, empty if it was not."""
        since, why = self._refused.get(name, (0.0, ""))
        return why if self._clock() - since < REFUSED_SECONDS else ""

    async def _look_up(self, names: Sequence[str]) -> str:
        """Read the repository's labels, and the organization's for names that the repository lacks.

        Return the reason if a list can't be read. A label in a list that was not read may exist all the same, and a
        second label with that name must not be created.
        """
        if self._clock() - self._read_at >= KEPT_SECONDS:
            self.forget()
        owner = self._repository.partition("/")[0]
        for path in (f"/repos/{self._repository}/labels", f"/orgs/{owner}/labels"):
            if all(self._refusal(name) for name in self.missing(names)):
                return ""
            try:
                labels = await read_all(self._client, path, {}, doing="read the labels")
            except _STOPS_THE_ISSUE_TOO:
                raise
            except Misconfigured as error:
                if path.startswith("/repos"):
                    return error.message
                # 404: the owner is a person; 403: the token may not read organizations
            except PluginError as error:
                return error.message
            else:
                for raw in labels:
                    self._keep(raw.get("name"), raw.get("id"))
        return ""

    async def _make(self, name: str) -> str:
        """Create one label; return the reason if that fails."""
        if not self._create:
            return self._refuse(name, "it does not exist, and `create_labels` is off")
        body = label_body(name)
        try:
            response = await self._client.request("POST", f"/repos/{self._repository}/labels", json=body)
            if not response.ok:
                raise problem(response, "make it")
            label = response.json()
        except _STOPS_THE_ISSUE_TOO:
            raise
        except PluginError as error:
            return self._refuse(name, error.message)
        if not (isinstance(label, dict) and isinstance(label.get("id"), int)):
            return "the server made it and did not tell its id"
        self._keep(name, label["id"])
        return ""

    def _refuse(self, name: str, why: str) -> str:
        self._refused[name] = (self._clock(), why)
        return why


def label_body(name: str) -> dict[str, str]:
    """Return the body that creates a label."""
    return {"name": name, "color": COLOUR}
