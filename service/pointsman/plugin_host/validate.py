"""What a plugin hands over is checked before it goes any further: a stranger's code may return anything."""

from __future__ import annotations

from typing import Any

import msgspec

from pointsman.content.sanitize import clean_json
from pointsman.plugin_api import UnknownOutcome


def checked(value: object, *kinds: type[msgspec.Struct]) -> Any:
    """The value, once it is one of these kinds through and through, its texts fit for the database.

    Raises UnknownOutcome: what answered nonsense may well have done what was asked.
    """
    for kind in kinds:
        if type(value) is kind:
            try:
                plain: Any = clean_json(msgspec.to_builtins(value))
                return msgspec.convert(plain, kind)
            except (msgspec.ValidationError, TypeError) as error:
                raise UnknownOutcome(f"the plugin returned a {kind.__name__} that is none: {error}") from None
    wanted = " or ".join(kind.__name__ for kind in kinds)
    raise UnknownOutcome(f"the plugin returned {type(value).__name__} instead of {wanted}")
