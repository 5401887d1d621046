"""Usernames and their ids. https://docs.gitlab.com/api/users/."""

from __future__ import annotations

from collections.abc import Iterable

from pointsman.plugin_api import ApiClient, Unavailable, UnknownOutcome
from pointsman.plugin_api.helpers import positive_int, short_text
from pointsman_gitlab.errors import problem


class UserLookup:
    """Looks up usernames and caches their ids; usernames that do not exist are looked up again."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._known: dict[str, int] = {}

    async def ids(self, usernames: Iterable[str]) -> tuple[dict[str, int], list[str]]:
        """Return the ids by username, and the usernames that do not exist.

        A lookup creates nothing: a lost response raises Unavailable and not UnknownOutcome, or a create that was not
        sent yet would count as one with an unknown outcome.
        """
        unknown = []
        for name in dict.fromkeys(usernames):
            if name not in self._known:
                try:
                    user_id = await self._ask(name)
                except UnknownOutcome as error:
                    raise Unavailable(error.message, status=error.status, excerpt=error.excerpt) from error
                if user_id is None:
                    unknown.append(name)
                else:
                    self._known[name] = user_id
        return {name: self._known[name] for name in dict.fromkeys(usernames) if name in self._known}, unknown

    async def _ask(self, name: str) -> int | None:
        doing = f"look up the user {name}"
        response = await self._client.request("GET", "/users", params={"username": name})
        if not response.ok:
            raise problem(response, doing)
        users = response.json()
        if not isinstance(users, list):
            raise UnknownOutcome(f"could not {doing}: the answer is no list", status=response.status)
        for user in users:
            user_id = positive_int(user, "id")
            if user_id is not None and short_text(user.get("username")).casefold() == name.casefold():
                return user_id
        return None
