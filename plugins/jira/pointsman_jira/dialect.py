"""Differences between Jira Cloud (API version 3) and Jira Data Center (version 2).

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/ and
https://developer.atlassian.com/server/jira/platform/rest/
"""

from __future__ import annotations

from typing import Any, Protocol

from pointsman_jira import adf, wiki
from pointsman_jira.wire import at, items_at, text_at

PAGE = 100


class Dialect(Protocol):
    """The API of one deployment."""

    api: str
    search: str
    writes_documents: bool

    def text(self, markdown: str) -> Any:
        """Return a Markdown text as descriptions and comments store it."""
        ...

    def plain(self, markdown: str) -> Any:
        """Return the text in a form of which only the text itself could be refused."""
        ...

    def person(self, name: str) -> dict[str, str]:
        """Return an account as a field's value."""
        ...

    def next_page(self, asked: dict[str, Any], page: Any) -> dict[str, Any] | None:
        """Return the request for the page after this one of a search, None after the last."""
        ...


class Cloud:
    """Documents, account ids, pages by token.

    https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/#api-rest-api-3-search-jql-post
    """

    api = "/rest/api/3"
    search = "/rest/api/3/search/jql"
    writes_documents = True

    def text(self, markdown: str) -> Any:
        """Return a document."""
        return adf.document(markdown)

    def plain(self, markdown: str) -> Any:
        """Return a document of plain paragraphs."""
        return adf.plain_document(markdown)

    def person(self, name: str) -> dict[str, str]:
        """Return the account by its id: e-mail addresses and names are hidden."""
        return {"id": name}

    def next_page(self, asked: dict[str, Any], page: Any) -> dict[str, Any] | None:
        """Return the request with the token of the next page. There is no total."""
        token = text_at(page, "nextPageToken")
        if not token or at(page, "isLast") is True or token == asked.get("nextPageToken"):
            return None
        return {**asked, "nextPageToken": token}


class DataCenter:
    """Wiki markup, user names, pages by number."""

    api = "/rest/api/2"
    search = "/rest/api/2/search"
    writes_documents = False

    def text(self, markdown: str) -> Any:
        """Return wiki markup."""
        return wiki.text(markdown)

    def plain(self, markdown: str) -> Any:
        """Return escaped text."""
        return wiki.plain(markdown)

    def person(self, name: str) -> dict[str, str]:
        """Return the account by its user name."""
        return {"name": name}

    def next_page(self, asked: dict[str, Any], page: Any) -> dict[str, Any] | None:
        """Return the request for the next page until the total is reached."""
        issues, total = items_at(page, "issues"), at(page, "total")
        start = int(asked.get("startAt", 0)) + len(issues)
        more = bool(issues) and isinstance(total, int) and start < total
        return {**asked, "startAt": start} if more else None


def of(*, is_cloud: bool) -> Dialect:
    """Return the dialect of a deployment."""
    return Cloud() if is_cloud else DataCenter()
