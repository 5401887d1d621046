"""Validate values that plugins return: their code is not ours and may return anything."""

from __future__ import annotations

from typing import Any

import msgspec

from pointsman.content.sanitize import clean_json
from pointsman.plugin_api import UnknownOutcome


def validated(value: object, *kinds: type[msgspec.Struct]) -> Any:
    """Return the value if it is one of these types in all its fields, with texts that the database accepts.

    Raises UnknownOutcome otherwise: the plugin may have done its work before it returned a wrong value.
    """
    for kind in kinds:
        if type(value) is kind:
            try:
                plain: Any = clean_json(msgspec.to_builtins(value))
                return msgspec.convert(plain, kind)
            except (msgspec.ValidationError, TypeError) as error:
                raise UnknownOutcome(f"the plugin returned an invalid {kind.__name__}: {error}") from None
    wanted = " or ".join(kind.__name__ for kind in kinds)
    raise UnknownOutcome(f"the plugin returned {type(value).__name__} instead of {wanted}")
