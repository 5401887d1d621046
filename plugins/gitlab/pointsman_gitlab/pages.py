"""Lists that come in pages. https://docs.gitlab.com/api/rest/#pagination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from pointsman.plugin_api import ApiClient, Response
from pointsman.plugin_api.helpers import Page, read_pages
from pointsman_gitlab.errors import problem

PAGE_SIZE = 100
"""The most objects that GitLab returns at once."""


async def read_all(
    client: ApiClient,
    path: str,
    params: Mapping[str, str | int],
    *,
    doing: str,
    max_pages: int = 100,
    about_issue: bool = False,
    until: Callable[[dict[str, Any]], bool] = lambda _: False,
) -> list[dict[str, Any]]:
    """Return all objects of a list, or those before the first object for which ``until`` returns true.

    Raises UnknownOutcome after ``max_pages`` pages. ``about_issue``: the path names an issue that has to exist.
    """

    async def fetch(page: int) -> Response:
        response = await client.request("GET", path, params={**params, "page": page, "per_page": PAGE_SIZE})
        if not response.ok:
            raise problem(response, doing, issue=about_issue)
        return response

    objects: list[dict[str, Any]] = []
    async with aclosing(read_pages(fetch, _next_page, doing=doing, max_pages=max_pages)) as listed:
        async for item in listed:
            if until(item):
                break
            objects.append(item)
    return objects


def _next_page(page: Page) -> int | None:
    """Return the next page, which ``X-Next-Page`` names; without that header the list ends with an empty page.

    A short page is not the last: objects that the account may not see are removed from it.
    """
    following = page.response.headers.get("x-next-page", str(page.number + 1) if page.objects else "")
    return (
        int(following)
        if following.isascii() and following.isdigit() and int(following) > page.number
        else None
    )
