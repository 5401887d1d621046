"""Lists that come in pages.

The ``Link`` header says whether there is a next page, not the number of objects:
https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pointsman.plugin_api import ApiClient, Response
from pointsman.plugin_api.helpers import Page, objects_in, read_pages
from pointsman_github import errors

PAGE_SIZE = 100
"""The most objects that GitHub returns at once."""


async def read_page(
    client: ApiClient,
    path: str,
    params: Mapping[str, str | int],
    *,
    doing: str,
    about_issue: bool = False,
) -> tuple[list[dict[str, Any]], bool]:
    """Return the objects of one page, and whether there is a next page."""
    response = await _fetch(client, path, params, doing=doing, about_issue=about_issue)
    return objects_in(response, doing), _has_next(response)


def each_object(
    client: ApiClient,
    path: str,
    params: Mapping[str, str | int],
    *,
    doing: str,
    about_issue: bool = False,
    max_pages: int = 20,
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the objects of a list, page by page. Raises UnknownOutcome after ``max_pages`` pages."""

    async def fetch(page: int) -> Response:
        return await _fetch(client, path, {**params, "page": page}, doing=doing, about_issue=about_issue)

    def next_page(page: Page) -> int | None:
        return page.number + 1 if _has_next(page.response) else None

    return read_pages(fetch, next_page, doing=doing, max_pages=max_pages)


async def _fetch(
    client: ApiClient, path: str, params: Mapping[str, str | int], *, doing: str, about_issue: bool
) -> Response:
    response = await client.request("GET", path, params={**params, "per_page": PAGE_SIZE})
    if not response.ok:
        raise errors.problem(response, doing, about_issue=about_issue)
    return response


def _has_next(response: Response) -> bool:
    return 'rel="next"' in response.headers.get("link", "")
