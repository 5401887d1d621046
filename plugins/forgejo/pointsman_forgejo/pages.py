"""Lists that come in pages. https://forgejo.org/docs/latest/user/api-usage/#pagination."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pointsman.plugin_api import ApiClient, Response
from pointsman.plugin_api.helpers import Page, read_pages
from pointsman_forgejo.errors import problem

PAGE_SIZE = 50
"""The most objects that Forgejo returns at once unless its operator set less (``[api] MAX_RESPONSE_ITEMS``)."""


def each_object(
    client: ApiClient, path: str, params: Mapping[str, str | int], *, doing: str, max_pages: int = 20
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the objects of a list, page by page. Raises UnknownOutcome after ``max_pages`` pages."""

    async def fetch(page: int) -> Response:
        response = await client.request("GET", path, params={**params, "page": page, "limit": PAGE_SIZE})
        if not response.ok:
            raise problem(response, doing)
        return response

    return read_pages(fetch, _next_page, doing=doing, max_pages=max_pages)


def _next_page(page: Page) -> int | None:
    """Return the next page. A short page is not the last: the server may return less than was requested."""
    total = page.response.headers.get("x-total-count", "")
    at_end = not page.objects or (total.isascii() and total.isdigit() and page.read >= int(total))
    return None if at_end else page.number + 1


async def read_all(
    client: ApiClient, path: str, params: Mapping[str, str | int], *, doing: str
) -> list[dict[str, Any]]:
    """Return all objects of a list."""
    return [item async for item in each_object(client, path, params, doing=doing)]
