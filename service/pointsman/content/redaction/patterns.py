"""Find secrets by their form: vendor tokens, keys, passwords in URLs and sentences, card and account numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from pointsman.content.redaction.heuristics import is_code, is_empty_value, is_random, looks_secret
from pointsman.content.redaction.vendor_tokens import VENDOR_TOKENS

Span = tuple[int, int, str]
"""Start and end of a secret in a text, and its kind."""

# All patterns begin with literal text, which is found fast, and none has a look-behind at its start. The character before
# a match is checked afterwards.

# -- vendor tokens -------------------------------------------------------------------------------------------------

_VENDORS = tuple((kind, hints, re.compile(pattern)) for kind, hints, pattern in VENDOR_TOKENS)


def _is_inside_word(text: str, at: int) -> bool:
    return at > 0 and text[at - 1].isalnum()


def lower_in_place(text: str) -> str:
    """Return the text in lower case with unchanged positions."""
    small = text.lower()
    return small if len(small) == len(text) else text.replace("\u0130", "i").lower()


def find_tokens(text: str, small: str) -> Iterator[Span]:
    """Yield vendor tokens, keys, passwords in URLs and headers, and cards. ``small`` is the text in lower case."""
    for kind, hints, pattern in _VENDORS:
        if any(hint in text for hint in hints):
            for match in pattern.finditer(text):
                if not _is_inside_word(text, match.start()):
                    yield (*match.span(1), kind)
    if "://" in text and "@" in text:
        yield from _find_url_credentials(text)
    if "bearer " in small or "basic " in small:
        yield from _find_header_credentials(text)
    yield from _find_stated_passwords(text, small)
    yield from _find_numbers(text)


def continues_word(text: str, at: int, signs: str) -> bool:
    """Return whether the character before ``at`` belongs to the same word."""
    return at > 0 and (text[at - 1].isalnum() or text[at - 1] in signs)


# -- URLs, headers, sentences --------------------------------------------------------------------------------------

_AUTHORITY = re.compile(r"""://([^\s/?#"'<>\\,()]{1,512}+)""")
_LONG_USERINFO = re.compile(r"""[^\s"'<>@]{1,256}+@(?=[\w\[])""")
_HARMLESS_USERS = frozenset({"git", "hg", "svn", "ssh", "root", "user", "username"})
TEMPLATE = re.compile(r"\$?\{\{?[^{}]{0,200}\}\}?|\$[A-Z_][A-Z0-9_]*|%s|%\(\w+\)s|\{\}|<[\w ]+>")
"""Placeholder for a value that is filled in later."""
_HEADER_VALUE = re.compile(r"[Bb](?:(?i:earer)|(?i:asic))[ \t]{1,4}+([A-Za-z0-9._~+/=-]{12,8192}+)")
_SQL_PASSWORD_PREFIXES = ("identified by '", "identified by password '", "password '")
_SQL_PASSWORD = re.compile(r"[^'\r\n]{1,256}(?=')")
_LOGIN = re.compile(r"login[ ]\S{1,100}[ ]password[ ](\S{3,256})")
_STATEMENT_VERBS = (" is ", " was ", " ist ", " war ", " lautet ", ": ")
_STATEMENT_SUBJECTS = ("password", "passwort", "passphrase", "passcode", "token", "api key", "secret", " pin")
_STATEMENT_VALUE = re.compile(r"""[ ]*:?[ ]*["']?([^\s"']{4,256}+)""")
_CURL_USER = re.compile(r"""-(?:u|-user)[ =]{0,2}+["']?[\w.@+-]{1,100}+:([^\s"']{3,256}+)""")


def _find_url_credentials(text: str) -> Iterator[Span]:
    """Yield the password of a URL's user information, or the whole of it where it is a single word."""
    for match in _AUTHORITY.finditer(text):
        start, end = match.span(1)
        host = match[1].rfind("@")
        if host < 0:
            user, colon, rest = match[1].partition(":")
            # a password may contain characters that should be escaped
            if (
                not colon
                or rest.isdigit()
                or match[1][0] == "["
                or text[end : end + 1] not in {"/", "?", "#"}
            ):
                continue
            longer = _LONG_USERINFO.match(text, start)
            if longer is None or longer.end() <= end:
                continue
            host = longer.end() - 1 - start
        user, colon, password = text[start : start + host].partition(":")
        if colon and password and not TEMPLATE.fullmatch(password) and not is_empty_value(password):
            yield start + len(user) + 1, start + host, "password"
            if len(user) >= 20 and looks_secret(user):
                yield start, start + len(user), "token"
        elif not colon and user not in _HARMLESS_USERS and len(user) >= 8:
            yield start, start + len(user), "token"


def _find_header_credentials(text: str) -> Iterator[Span]:
    for match in _HEADER_VALUE.finditer(text):
        value = match[1]
        if _is_inside_word(text, match.start()) or "=" in value.rstrip("="):
            continue
        if looks_secret(value) or is_random(value.ljust(20, "=")):
            yield (*match.span(1), "authorization")


def _ends_of(text: str, word: str) -> Iterator[int]:
    """Yield the end of each occurrence of a word."""
    at = text.find(word)
    while at >= 0:
        yield at + len(word)
        at = text.find(word, at + len(word))


def _find_stated_passwords(text: str, small: str) -> Iterator[Span]:
    """Yield passwords in SQL statements, sentences and commands."""
    for prefix in _SQL_PASSWORD_PREFIXES:
        for at in _ends_of(small, prefix):
            value = _SQL_PASSWORD.match(text, at)
            if value and not TEMPLATE.fullmatch(value[0]) and not is_empty_value(value[0]):
                yield (*value.span(), "password")
    for verb in _STATEMENT_VERBS:
        for at in _ends_of(small, verb):
            end = at - len(verb)
            stated = small.endswith(_STATEMENT_SUBJECTS, max(0, end - 12), end) and _STATEMENT_VALUE.match(
                text, at
            )
            if stated and _is_stated_secret(word := stated[1].rstrip(".,;:")):
                yield stated.start(1), stated.start(1) + len(word), "password"
    yield from _find_command_passwords(text, small)


def _is_stated_secret(word: str) -> bool:
    return looks_secret(word) or (word.isalnum() and not word.isalpha() and len(word) >= 4)


def _find_command_passwords(text: str, small: str) -> Iterator[Span]:
    if "login " in small:
        for match in _LOGIN.finditer(small):
            if not is_empty_value(match[1]):
                yield (*match.span(1), "password")
    if " -u" in text or " --user" in text:
        for match in _CURL_USER.finditer(text):
            if not continues_word(text, match.start(), "-") and not is_code(match[1]):
                yield (*match.span(1), "password")


# -- numbers -------------------------------------------------------------------------------------------------------

_CARD = re.compile(r"\d{4}(?:([ -])\d{4}\1\d{4}\1\d{1,7}|([ -])\d{6}\2\d{4,5}|\d{9,15})(?![\w/-]|[.,]\d)")
_CARD_KINDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?![\w/-])")


def _find_numbers(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if (
            _CARD_KINDS.fullmatch(digits)
            and luhn.is_valid(digits)
            and not continues_word(text, match.start(), "._,/-" if match[0] == digits else "./-")
        ):
            yield (*match.span(), "card")
    for match in _IBAN.finditer(text):
        if not _is_inside_word(text, match.start()) and _is_iban(match[0].replace(" ", "")):
            yield (*match.span(), "iban")


def _is_iban(text: str) -> bool:
    return 15 <= len(text) <= 34 and mod_97_10.is_valid(text[4:] + text[:4])
