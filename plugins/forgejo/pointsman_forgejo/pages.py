"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pointsman.plugin_api import ApiClient, UnknownOutcome
from pointsman_forgejo.errors import problem

PAGE = 50
"""The most that Forgejo gives at once unless its operator set less (``[api] MAX_RESPONSE_ITEMS``)."""


async def each(
    client: ApiClient, path: str, params: Mapping[str, str | int], *, doing: str, pages: int = 20
) -> AsyncGenerator[dict[str, Any], None]:
    """The objects of a list, page by page, https://forgejo.org/docs/latest/user/api-usage/#pagination.

    A short page is not the last one, because the server may give less than was asked for: the end is where
    ``X-Total-Count`` objects were read, or where a page is empty. A list that is longer than ``pages`` pages raises
    UnknownOutcome at its end, since half a list proves nothing.
    """
    seen = 0
    for page in range(1, pages + 1):
        answer = await client.request("GET", path, params={**params, "page": page, "limit": PAGE})
        if not answer.ok:
            raise problem(answer, doing)
        items = answer.json()
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            # what is passed by might be the very thing that is looked for
            raise UnknownOutcome(f"could not {doing}: the answer is no list of objects", status=answer.status)
        for item in items:
            yield item
        seen += len(items)
        total = answer.headers.get("x-total-count", "")
        if not items or (total.isascii() and total.isdigit() and seen >= int(total)):
            return
    raise UnknownOutcome(f"could not {doing}: more than {pages} pages")


async def read_pages(
    client: ApiClient, path: str, params: Mapping[str, str | int], *, doing: str
) -> list[dict[str, Any]]:
    """All objects of a list, see ``each``."""
    return [item async for item in each(client, path, params, doing=doing)]
