"""Mask secrets and personal data in texts that leave Pointsman: by name of the key, by form and by randomness.

A secret becomes a placeholder such as ``[token 3f2a91]``. The same secret has the same placeholder within an
installation, so that grouping and reading still work; the placeholder is a keyed digest and cannot be guessed without
the key. Results count the masked secrets by kind and never contain them.

Pass whole texts: a cut text may end with half a secret, which is not recognized.

``logs.scrub`` is separate on purpose: it masks our own log lines, where structure is known, on every line of the hot
path, and the leaf module ``logs`` has no key and imports nothing of this package.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from pointsman.content.redaction.heuristics import (
    is_empty_value,
    is_harmless_name,
    is_random,
    is_suspicious,
    kind_of_name,
)
from pointsman.content.redaction.key_value import find_assigned
from pointsman.content.redaction.patterns import Span, find_tokens, lower_in_place
from pointsman.content.redaction.pii import find_personal_data


class Profile(enum.Enum):
    """Extent of masking: secrets, or (``STRICT``, for public destinations) personal data as well."""

    NORMAL = "normal"
    STRICT = "strict"


class Redacted(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Text without its secrets, and the number of secrets by kind."""

    text: str
    counts: Mapping[str, int]

    def __repr__(self) -> str:
        """Return no text: an overlooked secret would otherwise reach a log."""
        return f"Redacted({len(self.text)} characters, counts={dict(self.counts)!r})"


def redact(text: str, *, key: bytes, profile: Profile = Profile.NORMAL) -> Redacted:
    """Mask the secrets in a text. ``key`` is the installation's key and must not be empty."""
    small = lower_in_place(text)
    spans = [*find_assigned(text, small), *find_tokens(text, small)]
    if profile is Profile.STRICT:
        spans += find_personal_data(text)
    return _mask(text, spans, key)


def redact_fact(name: str, value: str, *, key: bytes, profile: Profile = Profile.NORMAL) -> Redacted:
    """Mask the secrets in the value of a fact with this name."""
    kind, always = kind_of_name(name)
    bare = value.strip()
    whole = bool(kind and bare and not is_empty_value(bare) and (always or is_suspicious(kind, bare)))
    if whole or (not is_harmless_name(name) and is_random(bare)):
        return _mask(value, [(value.find(bare), value.find(bare) + len(bare), kind or "token")], key)
    return redact(value, key=key, profile=profile)


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sum of several counts by kind."""
    summed: Counter[str] = Counter()
    for count in counts:
        summed.update(count)
    return dict(summed)


# -- masking -------------------------------------------------------------------------------------------------------

_PLACEHOLDER = re.compile(r"\[[a-z]{2,16}(?:-[a-z]{2,16})? [0-9a-f]{6}\]")


def placeholder(kind: str, secret: str, key: bytes) -> str:
    """Return the placeholder of a secret."""
    if not key:
        raise ValueError("a placeholder without a key could be guessed from")
    digest = hmac.digest(key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"[{kind} {digest[:3].hex()}]"


def _mask(text: str, spans: list[Span], key: bytes) -> Redacted:
    done = [match.span() for match in _PLACEHOLDER.finditer(text)] if "[" in text else []
    parts: list[str] = []
    counts: Counter[str] = Counter()
    at = 0
    for start, end, kind in _outside_placeholders(_merge(spans), text, done):
        parts += [text[at:start], placeholder(kind, text[start:end], key)]
        counts[kind] += 1
        at = end
    return Redacted("".join([*parts, text[at:]]), dict(counts))


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Sort spans and merge overlapping ones; the first and longest span gives the kind."""
    merged: list[Span] = []
    for start, end, kind in sorted(spans, key=lambda span: (span[0], -span[1])):
        if merged and start < merged[-1][1]:
            before = merged[-1]
            merged[-1] = (before[0], max(before[1], end), before[2])
        else:
            merged.append((start, end, kind))
    return merged


def _outside_placeholders(
    spans: Iterable[Span], text: str, done: Sequence[tuple[int, int]]
) -> Iterator[Span]:
    """Yield the parts of sorted spans outside existing placeholders, so that masking is idempotent."""
    at = 0
    for start, end, kind in spans:
        while at < len(done) and done[at][1] <= start:
            at += 1
        rest, ahead = start, at
        while ahead < len(done) and done[ahead][0] < end:
            if _has_content(text[rest : done[ahead][0]]):
                yield rest, done[ahead][0], kind
            rest = max(rest, done[ahead][1])
            ahead += 1
        if rest == start or _has_content(text[rest:end]):
            yield rest, end, kind


def _has_content(text: str) -> bool:
    return any(c.isalnum() for c in text)
