"""Creation of an issue: the fields to send, and changes after a refusal.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-post
"""

from __future__ import annotations

import re
from typing import Any

from pointsman.plugin_api import Draft, Response
from pointsman_jira import adf, errors, templates, wire
from pointsman_jira.dialect import Dialect
from pointsman_jira.settings import JiraSettings

_ASSIGN = re.compile(r"\bassign", re.IGNORECASE)
_DOCUMENT = re.compile(r"atlassian document|document format", re.IGNORECASE)
# Multi-line text of the system, which version 3 takes as a document only.
_TEXT_AREAS = {"environment"}


class Creation:
    """The request that creates one issue. A 400 proves that nothing was created, so that it may be corrected and sent
    again at once.
    """

    def __init__(self, settings: JiraSettings, dialect: Dialect, draft: Draft) -> None:
        """Raise Refused for a template that fails. May take a while for a long text."""
        self._dialect = dialect
        self._body = draft.body
        self._plain = False
        self.notes: list[str] = []
        """What was not done as asked, as sentences for people."""
        # A draft may leave out what is not known; one without any facts knows nothing, and then a template fails.
        facts = {**dict.fromkeys(templates.FACTS, ""), **draft.facts} if draft.facts else {}
        self._extra = templates.fill("fields", settings.fields, facts)
        self._marker = draft.marker.text
        if dialect.writes_documents:
            for name in _TEXT_AREAS & self._extra.keys():
                self._to_document(name)
        if settings.priority.strip():
            self._extra["priority"] = {"name": settings.priority.strip()}
        if settings.assignee.strip():
            self._extra["assignee"] = dialect.person(settings.assignee.strip())
        self._fields: dict[str, Any] = {
            "project": {"key": settings.project},
            "issuetype": {"name": settings.issue_type},
            "summary": wire.summary(draft.title),
            "description": dialect.text(draft.body),
            "labels": wire.labels((*settings.labels, *draft.labels), self._marker),
        }

    @property
    def request(self) -> dict[str, Any]:
        """Return the request body."""
        return {
            "fields": {**self._extra, **self._fields},
            "properties": [wire.marker_property(self._marker)],
        }

    def mend(self, response: Response) -> bool:
        """Change what a refusal is about. Return False if there is nothing (more) to change."""
        if response.status != 400:
            return False
        refused, text = errors.error_messages(response)
        if not refused:
            if errors.is_about_format(response):
                return self._simplify()
            return bool(_ASSIGN.search(text)) and self._leave_unassigned(text)
        return all(self._mend(name, message) for name, message in refused.items())

    def _mend(self, name: str, message: str) -> bool:
        if name == "description" and "screen" not in message.casefold():
            return self._simplify()
        if name == "assignee":
            return self._leave_unassigned(message)
        return bool(_DOCUMENT.search(message)) and self._to_document(name)

    def _simplify(self) -> bool:
        if self._plain:
            return False
        self._plain = True
        self._fields["description"] = self._dialect.plain(self._body)
        return True

    def _leave_unassigned(self, message: str) -> bool:
        if self._extra.pop("assignee", None) is None:
            return False
        self.notes.append(f"made without its assignee, whom Jira refused: {message[:300]}")
        return True

    def _to_document(self, name: str) -> bool:
        """Convert the value of a multi-line field to a document: only Jira knows which fields need one."""
        value = self._extra.get(name)
        if not self._dialect.writes_documents or not isinstance(value, str):
            return False
        self._extra[name] = adf.plain_document(value)
        return True
