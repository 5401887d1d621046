"""Lists that come in pages. https://docs.gitlab.com/api/rest/#pagination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pointsman.plugin_api import ApiClient, UnknownOutcome
from pointsman_gitlab.errors import problem

PAGE = 100
"""The most that GitLab gives at once."""


async def read_pages(
    client: ApiClient,
    path: str,
    params: Mapping[str, str | int],
    *,
    doing: str,
    pages: int = 100,
    issue: bool = False,
    enough: Callable[[dict[str, Any]], bool] = lambda _: False,
) -> list[dict[str, Any]]:
    """All objects of a list, page by page, or those before the first one that is ``enough``.

    A short page is not the last one: what the account may not see is taken out of it. The end is where ``X-Next-Page``
    is empty or, without that header, where a page is. A list that is longer than ``pages`` raises UnknownOutcome, since half a
    list proves nothing.
    ``issue``: the address names an issue that has to be there.
    """
    found: list[dict[str, Any]] = []
    page = 1
    for _ in range(pages):
        answer = await client.request("GET", path, params={**params, "page": page, "per_page": PAGE})
        if not answer.ok:
            raise problem(answer, doing, issue=issue)
        items = answer.json()
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            # what is passed by might be the very thing that is looked for
            raise UnknownOutcome(
                f"could not {doing}: the answer is no list of objects",
                status=answer.status,
                excerpt=answer.text(),
            )
        for item in items:
            if enough(item):
                return found
            found.append(item)
        following = answer.headers.get("x-next-page", str(page + 1) if items else "")
        if not (following.isascii() and following.isdigit() and int(following) > page):
            return found
        page = int(following)
    raise UnknownOutcome(f"could not {doing}: more than {pages} pages")
