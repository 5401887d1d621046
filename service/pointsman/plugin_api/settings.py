"""Settings of plugins, and secrets in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pointsman.plugin_api import known_secrets

if TYPE_CHECKING:
    from typing_extensions import TypeVar
else:
    from typing import TypeVar


class Secret:
    """A text that never shows itself: ``reveal()`` returns it, ``repr`` and ``str`` return ``Secret(***)``.

    While a secret exists, its text is masked in everything that is logged, stored or shown.
    """

    __slots__ = ("__weakref__", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        known_secrets.add(self)

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a plugin's settings.

    Each field is one setting; a field of type ``Secret`` holds a credential. Write the help text into
    ``Annotated[str, msgspec.Meta(description=...)]``. Raise ValueError in ``__post_init__`` for values that can't be used, and
    say in the message how to correct them.
    """


if TYPE_CHECKING:
    # the default lets annotations say ``Tracker`` for a tracker with any settings
    SettingsT = TypeVar("SettingsT", bound=PluginSettings, default=Any)
else:
    SettingsT = TypeVar("SettingsT", bound=PluginSettings)
