"""E-mails as an SMTP server receives them: no text of a requester ends a header field or becomes one."""

import asyncio
import datetime as dt
import re
import uuid
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from types import SimpleNamespace

import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pointsman.config.settings import Secret, Smtp
from pointsman.content.sanitize import one_line
from pointsman.delivery.email_message import NAME_LIMIT, SUBJECT_LIMIT
from pointsman.delivery.email_sender import EmailSender
from pointsman.plugin_api import Refused

FIELDS = [
    *("From", "To", "Subject", "Date", "Message-ID", "References", "Auto-Submitted"),
    *("X-Auto-Response-Suppress", "MIME-Version", "Content-Type"),
]
ENCODED_BODY = "=?utf-8?b?QmlsbA0KQ29udGVudC1UeXBlOiB0ZXh0L2h0bWwNCg0KPGEgaHJlZj0vL2V2aWwuZXhhbXBsZT5QYXkgbm93PC9hPjwhLS0=?="
ENCODED_BCC = "=?utf-8?q?Hi=0d=0aBcc:_evil@x.example?="
PIECES = st.sampled_from(
    [
        *("\r\n", "\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\0", "\r\n\r\n", "\r\n "),
        *(
            ENCODED_BODY,
            ENCODED_BCC,
            "=?utf-8?q?=0d=0a?=",
            "=?",
            "?=",
            "=0a",
            '"',
            "\\",
            "<a@x.example>",
            ",",
        ),
        *("Bcc: evil@x.example", "Content-Type: text/html", ":", ";", " ", ".", "\t", "ä", "😀", "\ud800"),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=30), max_size=8).map("".join)


class Server:
    """An SMTP server on loopback that keeps the bytes of the last mail, and its recipients."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(
            self.loop.create_server(lambda: SMTP(self, hostname="localhost"), "127.0.0.1", 0)
        )
        self.port = self.server.sockets[0].getsockname()[1]
        self.content, self.recipients = b"", []

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        self.content, self.recipients = envelope.content, envelope.rcpt_tos
        return "250 kept"

    def send(self, *, subject="Closed", body="Done.", name="", address="ann@x.example"):
        """Send an e-mail and return it parsed, after checks of its bytes."""
        delivery = SimpleNamespace(
            reporter_name=name,
            reporter_email=address,
            event_at=dt.datetime(2026, 11, 30, tzinfo=dt.UTC),
            marker="m1",
            ticket_id=uuid.UUID(int=1),
        )
        smtp = Smtp(host="127.0.0.1", port=self.port, user="", password=Secret(""), tls="none")
        sender = EmailSender(None, None, smtp, "Größe <support@ä.example>", None)
        self.content = b""
        self.loop.run_until_complete(sender._send(delivery, {"subject": subject, "body": body}))
        head = self.content.partition(b"\r\n\r\n")[0]
        assert head.isascii()
        lines = head.split(b"\r\n")
        assert not [line for line in lines if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line)]
        assert max(map(len, lines)) <= 78
        assert [line.split(b":")[0].decode() for line in lines if line[:1] not in b" \t"] == FIELDS
        assert all(line.strip() for line in lines)
        return message_from_bytes(self.content, policy=policy.compat32)

    def close(self):
        self.server.close()
        self.loop.run_until_complete(self.server.wait_closed())
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


def text_of(header):
    unfolded = re.sub(r"\r\n(?=[ \t])", "", header)  # https://www.rfc-editor.org/rfc/rfc5322#section-2.2.3
    return str(make_header(decode_header(unfolded)))


@settings(deadline=None, max_examples=200)
@given(subject=TEXTS, name=TEXTS, body=TEXTS)
@example(ENCODED_BODY, ENCODED_BODY, ENCODED_BODY)
@example("Closed: " + ENCODED_BCC, "Bank <no-reply@bank.example>", "")
@example("=?utf-8?q?Bank_=3Cno-reply=40bank.example=3E?=", ENCODED_BCC, ".\r\n.\r\nRCPT TO:<evil@x.example>")
@example("Content-Type: text/html" * 3, "", "")
@example("x" * 300, 'O"Hara \\', "x" * 2000)
@example("wörter " * 40, "ß" * 80, "ä" * 2000)
def test_no_text_ends_a_field_or_becomes_one(server, subject, name, body):
    mail = server.send(subject=subject, name=name, body=body)
    assert server.recipients == ["ann@x.example"]
    assert text_of(mail["Subject"]) == one_line(subject, SUBJECT_LIMIT)
    to = mail["To"].replace("\r\n", "")
    assert to.endswith("ann@x.example>") or to == "ann@x.example"
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.get_payload()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    "name",
    ["Ann", "Ann Bee", 'O"Hara \\', "Smith, Ann", "Änne", "=?utf-8?q?x?=", "Bank <a@b.example>", "😀" * 100],
)
def test_a_name_reads_as_it_was_given(server, name):
    phrase = server.send(name=name)["To"].replace("\r\n", "").removesuffix(" <ann@x.example>")
    if phrase.startswith('"'):
        phrase = re.sub(r"\\(.)", r"\1", phrase[1:-1])
    assert text_of(phrase) == one_line(name, NAME_LIMIT)


def test_domains_outside_ascii_are_written_as_punycode(server):
    mail = server.send(address="ann@ö.example")
    assert server.recipients == ["ann@xn--nda.example"]
    assert mail["To"] == "ann@xn--nda.example"
    assert mail["From"].endswith("<support@xn--4ca.example>")
    assert mail["Message-ID"] == "<m1@xn--4ca.example>"


def test_no_programme_answers_our_mails(server):
    mail = server.send()
    assert (mail["Auto-Submitted"], mail["X-Auto-Response-Suppress"]) == ("auto-generated", "All")


def test_an_address_that_cannot_be_written_safely_is_a_dead_letter(server):
    with pytest.raises(Refused, match="requester's address is no mail address"):
        server.send(address="=?utf-8?q?a=40x=2eexample=3e=2c=20B=20=3cb=40y=2eexample?=@x.example")
