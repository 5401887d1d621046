"""Each built-in tracker end to end: create, comment, close at the tracker, reopen from here."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from configuration import HELPDESK, SOURCES, WEBHOOK_SECRET
from pointsman_forgejo.testing import FakeForgejo
from pointsman_github.testing import FakeGitHub
from pointsman_gitlab.testing import FakeGitLab
from pointsman_jira.testing import FakeJira
from polling import until
from service_fixture import RunningService


class Forgejo:
    """A Forgejo on loopback."""

    kind = "forgejo"

    def __init__(self, _: Path) -> None:
        self.fake = FakeForgejo(repository="acme/shop", token="tracker-token")

    def settings(self) -> str:
        return f'url = "{self.fake.url}"\ntoken = "tracker-token"\nrepository = "acme/shop"\nlabels = ["bug"]'

    def state(self, key: str) -> str:
        return self.fake.issues[int(key)].state

    def comments(self, key: str) -> int:
        return len(self.fake.issues[int(key)].comments)

    async def close(self, key: str) -> None:
        assert await self.fake.close_issue(int(key)) == 200


class GitHub(Forgejo):
    """A GitHub on loopback."""

    kind = "github"

    def __init__(self, _: Path) -> None:
        self.fake = FakeGitHub(repository="acme/shop", token="tracker-token")


class Jira(Forgejo):
    """A Jira on loopback."""

    kind = "jira"

    def __init__(self, _: Path) -> None:
        self.fake = FakeJira(project_key="SHOP", email="bot@shop.example", api_token="tracker-token")

    def settings(self) -> str:
        return (
            f'url = "{self.fake.url}"\nemail = "bot@shop.example"\napi_token = "tracker-token"\n'
            'project_key = "SHOP"\nissue_type = "Bug"'
        )

    def state(self, key: str) -> str:
        [issue] = [issue for issue in self.fake.issues.values() if issue.key == key]
        return "closed" if issue.status == "Done" else "open"

    def comments(self, key: str) -> int:
        return sum(effect.kind == "comment" and effect.key == key for effect in self.fake.effects)

    async def close(self, key: str) -> None:
        assert await self.fake.close_issue(key) == 200


class GitLab(Forgejo):
    """A GitLab on loopback."""

    kind = "gitlab"

    def __init__(self, _: Path) -> None:
        self.fake = FakeGitLab(project="acme/shop", token="tracker-token")

    def settings(self) -> str:
        return f'url = "{self.fake.url}"\ntoken = "tracker-token"\nproject = "acme/shop"\nlabels = ["bug"]'

    def state(self, key: str) -> str:
        return "closed" if self.fake.issues[int(key.removeprefix("#"))].state == "closed" else "open"

    def comments(self, key: str) -> int:
        return sum(not note.system for note in self.fake.issues[int(key.removeprefix("#"))].notes)

    async def close(self, key: str) -> None:
        assert await self.fake.close_issue(int(key.removeprefix("#"))) == 200


class Folder:
    """A folder of files. It has no webhooks and is polled."""

    kind = "folder"
    fake = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "issues"

    def settings(self) -> str:
        return f'path = "{self.folder}"'

    def _file(self, key: str) -> Path:
        [path] = self.folder.glob(f"{int(key):04d}-*.md")
        return path

    def state(self, key: str) -> str:
        match = re.search(r"^status: *(\w+)", self._file(key).read_text("utf-8"), re.MULTILINE)
        assert match is not None
        return match[1]

    def comments(self, key: str) -> int:
        return self._file(key).read_text("utf-8").count("\n## Comment")

    async def close(self, key: str) -> None:
        file = self._file(key)
        file.write_text(file.read_text("utf-8").replace("status: open", "status: closed", 1), "utf-8")


@pytest.mark.parametrize("kind", [Forgejo, GitHub, GitLab, Jira, Folder], ids=lambda kind: kind.kind)
async def test_there_and_back(service: RunningService, tmp_path: Path, kind):
    place = kind(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        if place.fake is not None:
            await stack.enter_async_context(place.fake)
        config = (
            SOURCES
            + f'[[destination]]\nslug = "there"\ntracker = "{kind.kind}"\nwebhook_secrets = ["{WEBHOOK_SECRET}"]\n'
            + f'[destination.settings]\n{place.settings()}\n[[route]]\ndestination = "there"\n'
        )
        await stack.enter_async_context(service.replica(config))
        ticket = await service.new_ticket("Nothing works <b>here</b> @team")
        await service.comment(ticket, "still not")
        link = await service.linked(ticket)
        key = link["key"]

        async def commented():
            return place.comments(key) == 1

        await until(commented)
        if place.fake is not None:
            assert place.fake.issues_created() == 1
            place.fake.webhook_url = f"{service.url}/webhooks/{kind.kind}/there"
            place.fake.webhook_secret = WEBHOOK_SECRET
        await place.close(key)
        await service.status(ticket, "closed")

        async def mailed():
            return len(service.sink.mails) == 1

        await until(mailed)
        await service.call("POST", f"/api/v1/tickets/{ticket}/reopen", token=HELPDESK, status=200)

        async def reopened():
            return place.state(key) == "open"

        await until(reopened)
        assert (await service.ticket(ticket))["status"] == "open"
