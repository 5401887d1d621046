"""Find personal data: e-mail and IP addresses, user names in paths, telephone numbers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from pointsman.content.redaction.patterns import Span, continues_word

_DOMAIN = re.compile(r"(?:@|%40)[\w-]{1,63}+(?>(?:\.[\w-]{1,63}+){1,8})")
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-")
_LOCAL_LIMIT = 64
_IPV4 = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w|\.\d)")
_COLONS = re.compile(r":[0-9a-fA-F]{0,4}:")
_IPV6 = re.compile(r"[0-9a-fA-F:]{5,45}+(?:\.\d{1,3}\.\d{1,3}\.\d{1,3})?(?!\w)")
_LONG_GROUP = re.compile("[0-9a-fA-F]{3}")
_IPV6_SIGNS = frozenset("0123456789abcdefABCDEF:")
_HOME = re.compile(
    r"(?:/home/|/Users/|[A-Za-z]:\\{1,4}(?:Users|Documents and Settings)\\{1,4})([^\s/\\:\"'<>|,;()\[\]]{1,64}+)"
)
_SHARED_ACCOUNTS = frozenset(
    [
        "app",
        "ubuntu",
        "debian",
        "runner",
        "node",
        "www-data",
        "vsts",
        "circleci",
        "public",
        "shared",
        "default",
        "user",
        "runneradmin",
        "ec2-user",
        "deploy",
        "web",
        "admin",
        "root",
        "git",
        "jenkins",
        "travis",
        "vagrant",
        "appuser",
        "nonroot",
        "nobody",
        "service",
        "linuxbrew",
    ]
)
_PHONE = re.compile(
    r"(?:(?:\+|00)[1-9]\d{0,2}[ ./-]?(?:\(0?\d{1,4}\)[ ./-]?)?(?:\d[ ./-]?){5,12}\d"
    r"|\(0\d{1,5}\)[ /-]?\d(?:[ /-]?\d){4,9}|0\d{2,4}[ /-]\d{5,9}|\(?[2-9]\d\d\)?[ -][2-9]\d\d-\d{4})(?![\w-]|[.:]\d)"
)


def find_personal_data(text: str) -> Iterator[Span]:
    """Yield e-mail and IP addresses, user names in paths, and telephone numbers."""
    if "@" in text or "%40" in text:
        yield from _find_emails(text)
    for match in _IPV4.finditer(text):
        if (
            not continues_word(text, match.start(), "._")
            and not _is_version(text, match.start())
            and _is_personal_address(match[0])
        ):
            yield (*match.span(), "address")
    yield from _find_ipv6(text)
    if "/home/" in text or "Users" in text or "Documents and" in text:
        for match in _HOME.finditer(text):
            if match[1].lower() not in _SHARED_ACCOUNTS:
                yield (*match.span(1), "user")
    for match in _PHONE.finditer(text):
        if not continues_word(text, match.start(), "._+/=:-"):
            yield (*match.span(), "phone")


def _find_emails(text: str) -> Iterator[Span]:
    for match in _DOMAIN.finditer(text):
        last = match[0].rpartition(".")[2]
        if len(last) < 2 or not last.isalpha():
            continue  # a package with its version
        start = match.start()
        while (
            start > 0
            and match.start() - start < _LOCAL_LIMIT
            and (text[start - 1] in _LOCAL or text[start - 1] > "\x7f")
        ):
            start -= 1
        if start < match.start():
            yield start, match.end(), "email"


def _find_ipv6(text: str) -> Iterator[Span]:
    covered = 0
    for match in _COLONS.finditer(text):
        start = match.start()
        if start < covered:
            continue
        while start > covered and match.start() - start < 5 and text[start - 1] in _IPV6_SIGNS:
            start -= 1
        address = _IPV6.match(text, start)
        covered = max(match.end(), address.end() if address else 0)
        if address and not continues_word(text, start, "._") and _is_ipv6(address[0]):
            yield (*address.span(), "address")


def _is_ipv6(text: str) -> bool:
    # a short text with two colons may be a class path
    return (text.count(":") > 2 or _LONG_GROUP.search(text) is not None) and _is_personal_address(text)


def _is_version(text: str, at: int) -> bool:
    """Return whether a program name precedes the number: Chrome/120.0.0.0."""
    return at >= 2 and text[at - 1] == "/" and text[at - 2].isalpha()


def _is_personal_address(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast)
