"""Process settings: every mistake at once, each with its cure, and no secret on any screen."""

import ipaddress
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.config.settings import Smtp, default_data_dir, load
from pointsman.crypto import sha256
from pointsman.errors import ConfigError
from pointsman.plugin_api import Secret

QUICK = settings(deadline=None, max_examples=40)
KEY, OLD_KEY = (Fernet.generate_key().decode() for _ in range(2))


def problems(**environ):
    with pytest.raises(ConfigError) as caught:
        load({"HOME": "/home/ann", **environ})
    return caught.value.problems


def good(**environ):
    return load({"HOME": "/home/ann", **environ})


def test_nothing_needs_to_be_set():
    settings = good()
    assert (settings.host, settings.port, settings.base_url) == ("127.0.0.1", 8080, "http://127.0.0.1:8080")
    assert settings.data_dir == Path("/home/ann/.local/share/pointsman")
    assert not settings.database_url
    assert (settings.pooler, bool(settings.listen_dsn)) == ("none", False)
    assert (settings.smtp, settings.config, settings.admin_token_sha256, settings.secret_keys) == (
        None,
        None,
        None,
        (),
    )
    assert (settings.outbound_hosts, settings.outbound_networks) == (frozenset(), ())


def test_everything_that_can_be_set_arrives(tmp_path):
    file = tmp_path / "pointsman.toml"
    file.touch()
    settings = good(
        DATABASE_URL="postgres://u:p@db/x",
        POINTSMAN_POOLER="transaction",
        POINTSMAN_LISTEN_DSN="postgres://u:p@db-1/x",
        POINTSMAN_LISTEN="0.0.0.0:80",
        POINTSMAN_PUBLIC_URL="https://help.example.com/pointsman/",
        POINTSMAN_CONFIG=str(file),
        POINTSMAN_DATA_DIR=str(tmp_path),
        POINTSMAN_SMTP_URL="smtp://mail",
        POINTSMAN_MAIL_FROM="Support <support@example.com>",
        POINTSMAN_SECRET_KEYS=f"{KEY}, {OLD_KEY}",
        POINTSMAN_ADMIN_TOKEN="a-long-admin-token",
        POINTSMAN_OUTBOUND_ALLOW="Forgejo.LAN, 10.2.0.0/16,127.0.0.1 fd12::/32",
        POINTSMAN_LOG="json",
        FORGEJO_URL="https://codeberg.org/",
        FORGEJO_API_TOKEN=" abc\n",
        POINTSMAN_MAX_CONNECTIONS="200",
        POINTSMAN_MAX_CONNECTIONS_PER_ADDRESS="0",
        POINTSMAN_TRUSTED_PROXIES="10.0.0.0/8, 192.168.7.3 fd00::/8",
        POINTSMAN_WEBHOOK_MAX_BYTES="26214400",
        POINTSMAN_INTAKE_MAX_BYTES="26214400",
    )
    assert (settings.max_connections, settings.max_connections_per_address) == (200, 0)
    assert [str(network) for network in settings.trusted_proxies] == [
        "10.0.0.0/8",
        "192.168.7.3/32",
        "fd00::/8",
    ]
    assert settings.webhook_max_bytes == 25 * 2**20
    assert settings.database_url.reveal() == "postgres://u:p@db/x"
    assert (settings.pooler, settings.listen_dsn.reveal()) == ("transaction", "postgres://u:p@db-1/x")
    assert (settings.host, settings.port) == ("0.0.0.0", 80)
    assert settings.base_url == "https://help.example.com/pointsman"
    assert (settings.config, settings.data_dir) == (file, tmp_path)
    assert settings.mail_from == "Support <support@example.com>"
    assert [key.reveal() for key in settings.secret_keys] == [KEY, OLD_KEY]
    assert settings.admin_token_sha256 == sha256(b"a-long-admin-token")
    assert settings.outbound_hosts == {"forgejo.lan"}
    assert settings.outbound_networks == tuple(
        map(ipaddress.ip_network, ("10.2.0.0/16", "127.0.0.1/32", "fd12::/32"))
    )
    assert (settings.log, settings.forgejo_url, settings.forgejo_api_token) == (
        "json",
        "https://codeberg.org",
        Secret("abc"),
    )


def test_our_own_database_variable_wins_over_the_common_one():
    settings = good(DATABASE_URL="postgres://one", POINTSMAN_DATABASE_URL="postgres://two")
    assert settings.database_url.reveal() == "postgres://two"


def test_an_address_to_listen_at_is_for_a_server_of_your_own():
    messages = problems(POINTSMAN_LISTEN_DSN="postgres://db-1/x")
    assert messages == [
        "POINTSMAN_LISTEN_DSN: is set without POINTSMAN_DATABASE_URL; set that too, or take this one out"
    ]


WRONG = {
    "POINTSMAN_DATABASE_URL": "mysql://db-pass@x",
    "POINTSMAN_POOLER": "statement",
    "POINTSMAN_LISTEN_DSN": "mysql://listen-pass@x",
    "POINTSMAN_LISTEN": "8080",
    "POINTSMAN_PUBLIC_URL": "help.example.com",
    "POINTSMAN_CONFIG": "/nowhere/pointsman.toml",
    "POINTSMAN_SMTP_URL": "http://mail-pass@x",
    "POINTSMAN_MAIL_FROM": "support",
    "POINTSMAN_SECRET_KEYS": "key-pass",
    "POINTSMAN_ADMIN_TOKEN": "admin-pass",
    "POINTSMAN_OUTBOUND_ALLOW": "10.0.0.0/99",
    "POINTSMAN_LOG": "xml",
    "FORGEJO_URL": "ftp://forgejo-pass@x",
}


def test_all_mistakes_are_told_at_once_each_with_its_cure():
    messages = problems(**WRONG)
    assert {message.partition(":")[0] for message in messages} == set(WRONG)
    assert len(messages) == len(WRONG)
    cures = ("write", "set", "give", "make one")
    assert [message for message in messages if not message.partition("; ")[2].startswith(cures)] == []


def test_no_mistake_tells_a_secret():
    assert "pass" not in "".join(problems(**WRONG)).replace("password", "")


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_is_told_alone_too(name):
    messages = problems(**{"POINTSMAN_MAIL_FROM": "a@b.test", name: WRONG[name]})
    assert [message.partition(":")[0] for message in messages] == [name]


def test_secrets_do_not_show():
    settings = good(
        DATABASE_URL="postgres://u:db-pass@db/x",
        POINTSMAN_LISTEN_DSN="postgres://u:listen-pass@db/x",
        POINTSMAN_SMTP_URL="smtp://u:mail-pass@mail",
        POINTSMAN_MAIL_FROM="a@b.test",
        POINTSMAN_SECRET_KEYS=KEY,
        POINTSMAN_ADMIN_TOKEN="admin-pass-admin-pass",
        FORGEJO_API_TOKEN="forgejo-pass",
    )
    shown = f"{settings!r} {settings} {settings.smtp!r} {settings.secret_keys}"
    assert "pass" not in shown.replace("password", "")
    assert KEY not in shown


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:80", "0.0.0.0", 80),
        (":8080", "0.0.0.0", 8080),
        ("[::1]:8080", "::1", 8080),
        ("[::]:0", "::", 0),
        ("localhost:65535", "localhost", 65535),
    ],
)
def test_addresses_to_listen_at(text, host, port):
    settings = good(POINTSMAN_LISTEN=text)
    assert (settings.host, settings.port) == (host, port)


@pytest.mark.parametrize(
    "text", ["8080", "::1:8080", "host", "host:", "host:65536", "[::1]", "[x]:1", "a b:1", "h:-1"]
)
def test_addresses_that_can_not_be_listened_at(text):
    assert len(problems(POINTSMAN_LISTEN=text)) == 1


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://127.0.0.1:80"),
        ("[fd12::1]:80", "http://[fd12::1]:80"),
    ],
)
def test_our_address_can_be_opened_from_here_whatever_we_listen_at(listen, url):
    assert good(POINTSMAN_LISTEN=listen).base_url == url


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("smtp://mail", Smtp(host="mail", port=25)),
        ("smtp://mail:1025", Smtp(host="mail", port=1025)),
        ("smtp://mail?starttls", Smtp(host="mail", port=587, tls="starttls")),
        ("smtps://mail", Smtp(host="mail", port=465, tls="implicit")),
        ("smtp://[::1]:25", Smtp(host="::1", port=25)),
        (
            "smtps://ann%40x.test:p%2Fa%3Ass@mail:2465",
            Smtp(host="mail", port=2465, user="ann@x.test", password=Secret("p/a:ss"), tls="implicit"),
        ),
    ],
)
def test_mail_servers(url, wanted):
    assert good(POINTSMAN_SMTP_URL=url, POINTSMAN_MAIL_FROM="a@b.test").smtp == wanted


@pytest.mark.parametrize(
    "url", ["mail", "smtp://", "smtp://m:x", "smtp://m:99999", "smtp://[::1", "smtp://m?tls", "imap://m"]
)
def test_mail_servers_that_can_not_be(url):
    assert [
        message.partition(":")[0]
        for message in problems(POINTSMAN_SMTP_URL=url, POINTSMAN_MAIL_FROM="a@b.test")
    ] == ["POINTSMAN_SMTP_URL"]


def test_a_mail_server_needs_a_sender():
    assert problems(POINTSMAN_SMTP_URL="smtp://mail")[0].startswith("POINTSMAN_MAIL_FROM: is missing")


@pytest.mark.parametrize(
    "sender", ["a@b", "Ann <a@b.test>", "<a@b.test>", "Ann B. <a@b.test>", "Ann <a@ä.test>"]
)
def test_senders(sender):
    assert good(POINTSMAN_MAIL_FROM=sender).mail_from == sender


@pytest.mark.parametrize(
    "sender",
    [
        "a",
        "@b",
        "a@",
        "a@b>",
        "Ann <a@b",
        "Ann a@b",
        "A <a@b>\nBcc: x@y",
        "a@b\r\nBcc: x@y",
        "ä@b",
        "A <=?q?x?=@b>",
    ],
)
def test_senders_that_would_break_a_mail(sender):
    assert len(problems(POINTSMAN_MAIL_FROM=sender)) == 1


def test_each_bad_key_is_named_by_its_number_and_not_shown():
    messages = problems(POINTSMAN_SECRET_KEYS=f"{KEY},oops-1,{OLD_KEY},oops-2")
    assert len(messages) == 2
    assert "number 2" in messages[0]
    assert "number 4" in messages[1]
    assert "oops" not in "".join(messages)


@pytest.mark.parametrize(
    "text", ["a..b/", "*.lan", "http://forgejo.lan", "10.0.0.0/33", "10.2.0.999", "-x", "x:80"]
)
def test_outbound_exceptions_are_hosts_or_networks_and_nothing_else(text):
    assert len(problems(POINTSMAN_OUTBOUND_ALLOW=text)) == 1


@pytest.mark.parametrize(
    "url", ["https://x/?a=1", "https://x/#a", "https://u@x", "https://", "https://x y", "x", "//x"]
)
def test_web_addresses_that_are_none(url):
    assert len(problems(POINTSMAN_PUBLIC_URL=url)) == 1


def test_data_goes_where_the_desktop_says():
    assert default_data_dir({"XDG_DATA_HOME": "/data", "HOME": "/home/ann"}) == Path("/data/pointsman")


@QUICK
@given(
    st.dictionaries(
        st.sampled_from([*WRONG, "DATABASE_URL", "FORGEJO_API_TOKEN"]), st.text(max_size=30), max_size=4
    )
)
def test_whatever_the_environment_holds_it_is_read_or_told(environ):
    try:
        messages = []
        load({"HOME": "/home/ann", **environ})
    except ConfigError as error:
        messages = error.problems or ["nothing is said"]
    assert {message.partition(":")[0] for message in messages} <= {*environ, "POINTSMAN_MAIL_FROM"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POINTSMAN_MAX_CONNECTIONS", "19"),
        ("POINTSMAN_MAX_CONNECTIONS", "1e3"),
        ("POINTSMAN_MAX_CONNECTIONS_PER_ADDRESS", "-1"),
        ("POINTSMAN_MAX_CONNECTIONS_PER_ADDRESS", "\u0665"),
        ("POINTSMAN_WEBHOOK_MAX_BYTES", "26214401"),
        ("POINTSMAN_INTAKE_MAX_BYTES", "65535"),
        ("POINTSMAN_TRUSTED_PROXIES", "proxy.lan"),
        ("POINTSMAN_TRUSTED_PROXIES", "10.0.0.0/33"),
    ],
)
def test_limits_and_proxies_that_make_no_sense_are_refused_with_a_cure(name, value):
    [message] = problems(**{name: value})
    assert (
        message.startswith(f"{name}: ") and value in message and ("give one" in message or "write" in message)
    )
