"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pointsman.plugin_api import ApiClient, UnknownOutcome
from pointsman_github import errors

PAGE = 100
"""The most that GitHub gives at once."""


async def read_page(
    client: ApiClient,
    path: str,
    params: Mapping[str, str | int],
    *,
    doing: str,
    about_issue: bool = False,
) -> tuple[list[dict[str, Any]], bool]:
    """One page, and whether another follows.

    The ``Link`` header tells, not the number of objects:
    https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api.
    """
    answer = await client.request("GET", path, params={**params, "per_page": PAGE})
    if not answer.ok:
        raise errors.problem(answer, doing, about_issue=about_issue)
    items = answer.json()
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        # what is passed by might be the very thing that is looked for
        raise UnknownOutcome(f"could not {doing}: the answer is no list of objects", status=answer.status)
    return items, 'rel="next"' in answer.headers.get("link", "")


async def read_pages(
    client: ApiClient,
    path: str,
    params: Mapping[str, str | int],
    *,
    doing: str,
    about_issue: bool = False,
    pages: int = 20,
) -> AsyncGenerator[dict[str, Any], None]:
    """The objects of a list, page by page.

    A list that is longer than ``pages`` pages raises UnknownOutcome at its end, since half a list proves nothing.
    """
    for page in range(1, pages + 1):
        items, more = await read_page(
            client, path, {**params, "page": page}, doing=doing, about_issue=about_issue
        )
        for item in items:
            yield item
        if not more:
            return
    raise UnknownOutcome(f"could not {doing}: more than {pages} pages")
