"""What differs between Jira Cloud (API version 3) and Jira Data Center (version 2).

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/ and
https://developer.atlassian.com/server/jira/platform/rest/
"""

from __future__ import annotations

from typing import Any, Protocol

from pointsman_jira import adf, wiki
from pointsman_jira.wire import at, items_at, text_at

PAGE = 100


class Dialect(Protocol):
    """One of the two."""

    api: str
    search: str
    writes_documents: bool

    def text(self, markdown: str) -> Any:
        """A Markdown text as descriptions and comments hold it."""
        ...

    def plain(self, markdown: str) -> Any:
        """The same with nothing in it that could be refused but the words."""
        ...

    def person(self, name: str) -> dict[str, str]:
        """An account as a field's value."""
        ...

    def next_page(self, asked: dict[str, Any], page: Any) -> dict[str, Any] | None:
        """What to ask for after a page of a search, None after the last."""
        ...


class Cloud:
    """Documents, account ids, pages by token.

    https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/#api-rest-api-3-search-jql-post
    """

    api = "/rest/api/3"
    search = "/rest/api/3/search/jql"
    writes_documents = True

    def text(self, markdown: str) -> Any:
        """A document."""
        return adf.document(markdown)

    def plain(self, markdown: str) -> Any:
        """A document of plain paragraphs."""
        return adf.plain_document(markdown)

    def person(self, name: str) -> dict[str, str]:
        """By the account id: e-mail addresses and names are hidden."""
        return {"id": name}

    def next_page(self, asked: dict[str, Any], page: Any) -> dict[str, Any] | None:
        """There is no total: a page names the next one."""
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
        """Wiki markup."""
        return wiki.text(markdown)

    def plain(self, markdown: str) -> Any:
        """Escaped text."""
        return wiki.plain(markdown)

    def person(self, name: str) -> dict[str, str]:
        """By the user name."""
        return {"name": name}

    def next_page(self, asked: dict[str, Any], page: Any) -> dict[str, Any] | None:
        """Until as many were seen as there are."""
        found, total = items_at(page, "issues"), at(page, "total")
        start = int(asked.get("startAt", 0)) + len(found)
        more = bool(found) and isinstance(total, int) and start < total
        return {**asked, "startAt": start} if more else None


def of(*, is_cloud: bool) -> Dialect:
    """The dialect of a deployment."""
    return Cloud() if is_cloud else DataCenter()
