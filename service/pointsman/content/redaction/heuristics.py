"""Judge whether a value is a secret by the name of its key and by how random it looks."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter

# -- names ---------------------------------------------------------------------------------------------------------

# ends of names without separators; every value with such a name is masked
_STRONG = {
    "password": ("password", "passwd", "passphrase", "passcode", "passwort", "kennwort", "pwd", "motdepasse"),
    "token": ("token", "jwt", "csrf", "xsrf", "bearer"),
    "secret": ("secret", "connectionstring"),
    "key": tuple(
        f"{of}key"
        for of in (
            *(
                "api",
                "access",
                "secret",
                "private",
                "priv",
                "encryption",
                "signing",
                "account",
                "auth",
                "master",
            ),
            *("app", "license", "ssh", "deploy", "subscription", "session", "service", "client", "storage"),
            *("admin", "root", "jwt", "hmac", "webhook", "ingest", "consumer", "crypt", "aes", "rsa"),
        )
    ),
    "cookie": ("cookie",),
    "authorization": ("authorization",),
    "session": ("sessionid", "sessid", "sessionkey"),
    "card": ("cardnumber", "ccnumber", "cvv", "cvc"),
}
# last words of names; a value with such a name is masked if it looks random
_WEAK = {
    "session": ("session", "sid"),
    "token": (
        "auth",
        "authentication",
        "otp",
        "sig",
        "signature",
        "credential",
        "pat",
        "nonce",
        "creds",
    ),
    "card": ("pin", "ssn"),
}
_STRONG_KINDS = {end: kind for kind, ends in _STRONG.items() for end in ends}
_STRONG_ENDS = tuple(_STRONG_KINDS)
_WEAK_ENDS = {end: kind for kind, ends in _WEAK.items() for end in ends}
_TAIL = re.compile(
    r"(?:confirmation|confirm|repeat|again|value|hash|raw|plain|base64|b64|current|new|old|s|\d{1,2})$"
)
_NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SEPARATORS = str.maketrans("", "", "-_. ")
_NAME_LIMIT = 80


@functools.lru_cache(4096)
def kind_of_name(name: str) -> tuple[str, bool]:
    """Return the kind of secret that a key of this name holds ("" if none), and whether every value is masked."""
    flat = name[-_NAME_LIMIT:].translate(_SEPARATORS).lower()
    for _ in range(3):
        if flat.endswith(_STRONG_ENDS):
            end = max((end for end in _STRONG_ENDS if flat.endswith(end)), key=len)
            # "tokens" is mostly the number of tokens of a language model
            return _STRONG_KINDS[end], not name.lower().endswith("tokens")
        shorter = _TAIL.sub("", flat)
        if shorter == flat:
            break
        flat = shorter
    parts = [word.lower() for word in _NAME_PARTS.findall(name[-_NAME_LIMIT:])]
    last = parts[-1] if parts else ""
    if last in {"pass", "pw"}:
        # "pass" alone may be the result of a test
        return "password", len(parts) > 1
    return _WEAK_ENDS.get(last.removesuffix("s"), ""), False


# names whose values look random but are no secrets
_HARMLESS_WORDS = frozenset(
    [
        "h",
        "id",
        "ids",
        "uuid",
        "guid",
        "ref",
        "etag",
        "hash",
        "sha",
        "sha1",
        "sha256",
        "sha384",
        "sha512",
        "md5",
        "crc",
        "digest",
        "checksum",
        "integrity",
        "commit",
        "revision",
        "rev",
        "version",
        "trace",
        "traceparent",
        "tracestate",
        "span",
        "request",
        "correlation",
        "build",
        "chunk",
        "file",
        "filename",
        "path",
        "url",
        "uri",
        "href",
        "src",
        "name",
        "class",
        "module",
        "data",
        "image",
        "img",
        "icon",
        "content",
        "body",
        "cursor",
        "page",
        "offset",
        "fingerprint",
        "thumbprint",
        "boundary",
        "font",
        "lock",
        "resolved",
        "object",
        "tag",
        "type",
        "message",
        "msg",
        "at",
        "in",
        "line",
        "column",
        "code",
        "error",
        "exception",
        "query",
        "sql",
        "text",
        "title",
        "label",
        "value",
    ]
)


@functools.lru_cache(4096)
def is_harmless_name(name: str) -> bool:
    """Return whether values of this key are often random and never secret: hashes, identifiers, content."""
    return any(word.lower() in _HARMLESS_WORDS for word in _NAME_PARTS.findall(name[-_NAME_LIMIT:])[-2:])


# -- values --------------------------------------------------------------------------------------------------------

_EMPTY_VALUES = frozenset(
    [
        "none",
        "null",
        "nil",
        "true",
        "false",
        "undefined",
        "empty",
        "missing",
        "required",
        "invalid",
        "expired",
        "unset",
        "set",
        "present",
        "absent",
        "yes",
        "no",
        "on",
        "off",
        "ok",
        "str",
        "string",
        "int",
        "integer",
        "bool",
        "boolean",
        "bytes",
        "object",
        "any",
        "optional",
        "bearer",
        "basic",
        "digest",
        "token",
        "password",
        "secret",
        "self",
        "request",
        "value",
        "var",
        "default",
        "unknown",
        "redacted",
        "filtered",
        "hidden",
        "masked",
        "removed",
        "scrubbed",
        "nan",
        "na",
        "n/a",
        "not",
        "is",
        "was",
        "must",
        "cannot",
        "has",
        "the",
        "a",
        "an",
        "and",
        "or",
        "for",
        "expected",
        "unexpected",
        "incorrect",
        "wrong",
        "failed",
        "error",
        "denied",
        "changed",
        "reset",
        "length",
        "text",
        "type",
        "varchar",
        "char",
        "function",
    ]
)
_MASKED = re.compile(r"[*x•.\-_#]{2,}+|\[[A-Za-z ]{1,20}\]|<[\w -]{1,40}>|\(\w*\)", re.IGNORECASE)
_VARIABLE = re.compile(
    r"\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+)|\$?\$?\{[^}]*\}?.*|\$\([^)]*\)?.*|%\(\w+\)[sdrv]|%[sdrv]|%[A-Z_]+%|#\{.*|:[a-z_]\w*|\?|\$\d{1,2}|@\w+"
)
_CODE = re.compile(
    r"&?[A-Za-z_$]\w*(?:(?:\.|->|::|\?\.)[A-Za-z_]\w*)+|[A-Za-z_]*(?:<[\w\[\], ]*>)|[A-Za-z_.]+\[.*|lambda\b.*"
)
_NAME_LIKE = re.compile(
    r"(?i).*(?:pass|passwd|pwd|password|token|secret|key|cookie|auth|session|credentials?)s?_?"
)


def is_empty_value(value: str) -> bool:
    """Return whether a value is empty, the name of a type, or already masked by another program."""
    return value.lower().rstrip(".:;,!?") in _EMPTY_VALUES or _MASKED.fullmatch(value) is not None


def is_code(value: str) -> bool:
    """Return whether a value is program code, such as a variable, and not a literal."""
    return (
        _VARIABLE.fullmatch(value) is not None
        or (_CODE.fullmatch(value) is not None and sum(c.isdigit() for c in value) < 3)
        or (value.replace("_", "a").isalpha() and _NAME_LIKE.fullmatch(value) is not None)
    )


_HEXADECIMAL = re.compile(r"(?:0x)?[0-9a-fA-F-]+")
_TOKENISH = re.compile(r"[A-Za-z0-9+/=_~-]{20,128}+")
# PNG, JPEG, GIF, WebP, PDF, SVG, icon, font, gzip, zip and XML in base64
_CONTENT = ("iVBOR", "/9j/", "R0lGOD", "UklGR", "JVBER", "PHN2Z", "AAABAA", "d09GR", "H4sI", "UEsDB", "PD94b")
_HASHED = re.compile(r"(?:sha\d{1,3}|md5)[-:]")


def is_random(value: str) -> bool:
    """Return whether a value looks generated: upper and lower case letters mixed with digits.

    Hexadecimal values do not count: hashes and identifiers look the same.
    """
    if _TOKENISH.fullmatch(value) is None or value.startswith(_CONTENT) or _HASHED.match(value):
        return False
    if value[0] == "/" or value.count("/") > max(2, len(value) // 14) or _HEXADECIMAL.fullmatch(value):
        return False
    classes = [_class(c) for c in value.rstrip("=")]
    kinds = Counter(classes)
    if kinds["d"] < 2 or kinds["u"] < 2 or kinds["l"] < 2 or kinds["o"] > len(classes) // 5:
        return False
    changes = sum(1 for previous, current in itertools.pairwise(classes) if previous != current)
    return changes >= 0.38 * len(classes) and _entropy(value) >= 3.6


def looks_secret(value: str) -> bool:
    """Return whether a value with a suspicious name looks like a secret; digits and hexadecimal values count."""
    if len(value) < 6 or not value.isprintable() or " " in value:
        return False
    figures = sum(c.isdigit() for c in value)
    letters = sum(c.isalpha() for c in value)
    if figures and len(value) >= 16:
        return figures >= 2 and letters + figures >= 0.7 * len(value)
    return bool(figures and letters and letters + figures < len(value))


def is_suspicious(kind: str, value: str) -> bool:
    """Return whether a value with an ambiguous name looks like a secret; a password needs only letters and digits."""
    mixed = any(c.isdigit() for c in value) and any(c.isalpha() for c in value)
    return looks_secret(value) or (kind == "password" and mixed and len(value) >= 4 and " " not in value)


def _class(character: str) -> str:
    if character.isdigit():
        return "d"
    if character.isupper():
        return "u"
    return "l" if character.islower() else "o"


def _entropy(value: str) -> float:
    """Return the entropy in bits per character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
