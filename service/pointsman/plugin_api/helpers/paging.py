"""Read lists that come in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NamedTuple

from pointsman.plugin_api.errors import UnknownOutcome
from pointsman.plugin_api.values import Response


class Page(NamedTuple):
    """One page of a list; ``read`` counts the objects of this and all earlier pages."""

    number: int
    response: Response
    objects: list[dict[str, Any]]
    read: int


def objects_in(response: Response, doing: str) -> list[dict[str, Any]]:
    """Return the objects of a response. Raises UnknownOutcome if it is anything but a list of objects.

    An element that is skipped might be the very object that is searched for.
    """
    items = response.json()
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UnknownOutcome(
            f"could not {doing}: the answer is no list of objects",
            status=response.status,
            excerpt=response.text(),
        )
    return items


async def read_pages(
    fetch: Callable[[int], Awaitable[Response]],
    next_page: Callable[[Page], int | None],
    *,
    doing: str,
    max_pages: int,
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the objects of a list, page by page, from page 1 on.

    ``fetch`` requests one page and raises the tracker's errors. ``next_page`` returns the number of the page to read next,
    None at the end of the list. A list with more than ``max_pages`` raises UnknownOutcome: an incomplete list proves
    nothing. ``doing`` names the action in error messages ("list the webhooks").
    """
    number, read = 1, 0
    for _ in range(max_pages):
        response = await fetch(number)
        objects = objects_in(response, doing)
        for item in objects:
            yield item
        read += len(objects)
        following = next_page(Page(number, response, objects, read))
        if following is None:
            return
        number = following
    raise UnknownOutcome(f"could not {doing}: more than {max_pages} pages")
