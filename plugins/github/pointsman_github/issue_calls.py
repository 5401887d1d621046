"""Requests about one issue, and the meaning of a 404 or a redirect of such a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointsman.plugin_api import ApiClient, IssueMoved, IssueRef, NotFound, PluginError, Response, Unavailable
from pointsman.plugin_api.helpers import number_in_path, short_text
from pointsman_github import errors, wire
from pointsman_github.settings import GitHubSettings


class IssueCalls:
    """Requests to paths below one repository, ``repo``."""

    def __init__(self, api: ApiClient, repo: str, settings: GitHubSettings) -> None:
        self._api = api
        self._repo = repo
        self._settings = settings

    def at(self, issue: IssueRef) -> str:
        """Return the issue's path. An id that is no number was never an issue here."""
        return f"{self._repo}/issues/{number_in_path(issue.remote_id, 'issue')}"

    async def request_json(
        self, method: str, path: str, doing: str, *, json: Mapping[str, Any] | None = None
    ) -> Any:
        """Send one request about an issue and return the decoded response."""
        return (await self.call(method, path, doing, json=json)).json()

    async def call(
        self, method: str, path: str, doing: str, *, json: Mapping[str, Any] | None = None
    ) -> Response:
        """Send one request about an issue. A redirect is examined and never followed with a write."""
        response = await self._api.request(method, path, json=json)
        if response.status in errors.REDIRECTS:
            raise await self._where_to(response)
        if not response.ok:
            error = errors.problem(response, doing, about_issue=True)
            raise await self.error_of_missing(error) if isinstance(error, NotFound) else error
        return response

    async def error_of_missing(self, error: NotFound) -> PluginError:
        """Return the error for a 404: either the issue is gone, or the whole repository is out of sight.

        GitHub answers both alike, and only the first ends our work on the issue.
        """
        if error.status != 404:
            return error
        try:
            repository = await self._api.request("GET", self._repo)
        except PluginError as cause:
            return Unavailable(
                f"{error.message}; asking for the repository failed: {cause.message}", status=404
            )
        if repository.ok:
            return error
        if repository.status in errors.REDIRECTS:
            return errors.renamed(repository)
        doing = f"see the repository {self._settings.repository}"
        return errors.as_unavailable(errors.problem(repository, doing))

    async def _where_to(self, response: Response) -> PluginError:
        """Return the error for a redirect: either one issue was transferred (IssueMoved), or the repository has a new
        name.
        """
        try:
            repository = await self._api.request("GET", self._repo)
            if repository.status in errors.REDIRECTS:
                return errors.renamed(repository)
            where = response.headers.get("location", "").removesuffix("/comments")
            to = short_text(where, 500)
            if errors.same_origin(where, self._settings.url):
                there = await self._api.request("GET", where)
                ref = wire.issue_ref(there.json()) if there.ok else None
                to = ref.url if ref is not None and ref.url else to
        except PluginError as error:
            return Unavailable(
                f"the issue was redirected, and asking where failed: {error.message}", status=response.status
            )
        return IssueMoved("the issue was transferred to another repository", to=to, status=response.status)
