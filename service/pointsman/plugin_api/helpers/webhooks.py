"""Register a tracker's webhook: search for it, create it, repair it."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from pointsman.plugin_api.errors import PluginError
from pointsman.plugin_api.settings import Secret
from pointsman.plugin_api.values import Finding


class Webhook(Protocol):
    """A webhook as the tracker describes it."""

    @property
    def number(self) -> int:
        """Its id."""
        ...

    @property
    def url(self) -> str:
        """The URL that it calls."""
        ...


WebhookT = TypeVar("WebhookT", bound=Webhook)


class WebhookRegistration(abc.ABC, Generic[WebhookT]):
    """The webhooks of one place, and the one among them that calls Pointsman.

    Subclass it with the tracker's own requests; ``ensure`` is what ``Tracker.ensure_webhook`` needs.
    """

    def __init__(self, settings_page: str) -> None:
        self._settings_page = settings_page
        self._lock = asyncio.Lock()

    @abc.abstractmethod
    async def read_all(self) -> Sequence[WebhookT]:
        """Return the webhooks of this place."""

    @abc.abstractmethod
    async def create(self, url: str, secret: Secret) -> Finding:
        """Create the webhook and return the result."""

    @abc.abstractmethod
    async def repair(self, webhook: WebhookT, url: str, secret: Secret) -> Finding:
        """Repair the existing webhook where necessary and return the result."""

    @abc.abstractmethod
    def explain(self, error: PluginError, url: str) -> Finding | None:
        """Return what a person has to do where the account may not register webhooks, None if the error is another one."""

    async def ensure(self, url: str, secret: Secret) -> Finding:
        """Create or repair the one webhook that calls ``url``. Several of them are reported and not touched."""
        async with self._lock:
            try:
                webhooks = sorted(
                    (webhook for webhook in await self.read_all() if webhook.url == url),
                    key=lambda webhook: webhook.number,
                )
                if not webhooks:
                    return await self.create(url, secret)
                if len(webhooks) > 1:
                    return self._several([webhook.number for webhook in webhooks])
                return await self.repair(webhooks[0], url, secret)
            except PluginError as error:
                finding = self.explain(error, url)
                if finding is None:
                    raise
                return finding

    def _several(self, numbers: Sequence[int]) -> Finding:
        return Finding(
            level="warning",
            message=f"{len(numbers)} webhooks lead to Pointsman: {', '.join(map(str, numbers))}",
            impact="each change is reported more than once",
            remedy=f"delete all but one in {self._settings_page}, then run this again",
        )
