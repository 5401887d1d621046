"""Check mail addresses of untrusted origin, and write them in ASCII."""

from __future__ import annotations

import re

import idna

MAX_ADDRESS_CHARACTERS = 254
"""RFC 5321, section 4.5.3.1.3: https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.1.3"""
_LOCAL_PART = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


def ascii_mail_address(address: str) -> str:
    """Return an address that every mail server and header accepts: its domain as Punycode (IDNA 2008).

    Raises ValueError, whose message follows the name of a field, for text that is no address, for quoted local parts and
    address literals, for local parts outside ASCII (they need SMTPUTF8, which many servers lack), and for addresses that mail
    programs decode to another text (RFC 2047).
    """
    if len(address) > MAX_ADDRESS_CHARACTERS:
        raise ValueError(f"has more than {MAX_ADDRESS_CHARACTERS} characters")
    local, at, domain = address.rpartition("@")
    if at and not local.isascii():
        raise ValueError("has letters outside ASCII before the @: no mail can be sent there")
    if not _LOCAL_PART.fullmatch(local):
        raise ValueError("is no mail address")
    if "=?" in local:
        raise ValueError("is no mail address: =? before the @ begins an encoded word")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise ValueError("is no mail address: its domain is no domain name") from None
    if not _DOMAIN.fullmatch(domain):
        raise ValueError("is no mail address")
    return f"{local}@{domain}"
