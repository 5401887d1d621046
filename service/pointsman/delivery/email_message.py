"""Write e-mails as bytes, with header fields that untrusted text can neither end nor change.

The headers are encoded here and not by ``email.message``: before Python 3.11.10 and 3.12.5 it decodes encoded words in a
text and writes line breaks in the result as they are (CVE-2024-6923), and every version lets encoded words in an address
change the list of addresses.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from html import escape
from textwrap import wrap

import msgspec
from markdown_it import MarkdownIt

from pointsman.content.sanitize import clean_stored, one_line
from pointsman.plugin_api.helpers import ascii_mail_address

SUBJECT_LIMIT = 255
NAME_LIMIT = 80
LINE_LIMIT = 76
"""Characters of a line in the header: RFC 2047, section 2, https://www.rfc-editor.org/rfc/rfc2047#section-2"""
_ENCODED_WORD_BYTES = 39
"""UTF-8 bytes in one encoded word, which then has 64 characters and leaves space for the name of the field."""
_PLAIN = re.compile(r"[ -~]*")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_MARKDOWN = MarkdownIt("commonmark", {"html": False})
_UNESCAPE = str.maketrans("", "", "\u2060")
_BODY_POLICY = policy.SMTP.clone(cte_type="7bit")


class Email(msgspec.Struct, frozen=True):
    """An e-mail in the form in which it is sent: envelope addresses, and the message with CRLF line ends."""

    sender: str
    recipient: str
    message: bytes


def compose(
    *,
    sender: str,
    recipient_name: str,
    recipient_address: str,
    subject: str,
    body: str,
    at: dt.datetime,
    message_id: str,
    thread_id: str,
) -> Email:
    """Return an e-mail whose body, in Markdown, is sent as plain text and HTML.

    ``sender`` is a mailbox with an optional name, and ``recipient_address`` an address in ASCII. The two ids get the
    sender's domain.
    """
    sender_name, sender_address = parseaddr(sender)
    sender_address = ascii_mail_address(sender_address)
    domain = sender_address.rpartition("@")[2]
    fields = {
        "From": _mailbox(sender_name, sender_address),
        "To": _mailbox(recipient_name, recipient_address),
        "Subject": encode_text(one_line(subject, SUBJECT_LIMIT)),
        "Date": format_datetime(at),
        "Message-ID": f"<{message_id}@{domain}>",
        "References": f"<{thread_id}@{domain}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return Email(
        sender_address, recipient_address, head.encode("ascii") + _content(subject, clean_stored(body))
    )


def encode_text(text: str) -> str:
    """Return one line of text as the value of an unstructured field, folded.

    Printable ASCII stays readable; any other text, and text with ``=?`` in it, becomes encoded words.
    """
    if _PLAIN.fullmatch(text) and "=?" not in text:
        # the first line also has the field's name
        lines = wrap(text, LINE_LIMIT - len("Subject: "), break_long_words=False, break_on_hyphens=False)
        if all(len(line) <= LINE_LIMIT for line in lines):
            return "\r\n ".join(lines)
    return _encoded_words(text)


def _mailbox(name: str, address: str) -> str:
    """Return a display name and an ASCII address as the value of an address field."""
    name = one_line(name, NAME_LIMIT)
    if not name:
        return address
    if "=?" not in name and _PLAIN.fullmatch(name):
        quoted = re.sub(r'(["\\])', r"\\\1", name)
        phrase = name if _PHRASE.fullmatch(name) else f'"{quoted}"'
    else:
        phrase = _encoded_words(name)
    return f"{phrase}\r\n <{address}>"


def _encoded_words(text: str) -> str:
    """Return text as folded encoded words; no character is divided between two words."""
    words: list[bytes] = [b""]
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if len(words[-1]) + len(encoded) > _ENCODED_WORD_BYTES:
            words.append(b"")
        words[-1] += encoded
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode('ascii')}?=" for word in words)


def _content(subject: str, body: str) -> bytes:
    """Return the MIME headers and the body, in ASCII."""
    content = EmailMessage(policy=_BODY_POLICY)
    content.set_content(plain_text(body))
    html = _MARKDOWN.render(body).translate(_UNESCAPE)
    content.add_alternative(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(one_line(subject))}</title></head>'
        f'<body style="font-family:sans-serif;line-height:1.5;max-width:40em">{html}</body></html>',
        subtype="html",
    )
    return content.as_bytes()


def plain_text(markdown: str) -> str:
    """Return Markdown as plain text, without its markup."""
    parts: list[str] = []
    for block in _MARKDOWN.parse(markdown):
        for token in block.children or ():
            if token.type in ("text", "code_inline"):
                parts.append(token.content)
            elif token.type in ("softbreak", "hardbreak"):
                parts.append("\n")
        if block.type == "paragraph_close":
            parts.append("\n\n")
    return "".join(parts).translate(_UNESCAPE).strip() + "\n"
