"""Read process settings from the environment. All mistakes are reported at once, each with its cure."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
from cryptography.fernet import Fernet

from pointsman.crypto import sha256
from pointsman.errors import ConfigError
from pointsman.plugin_api import Secret
from pointsman.plugin_api.helpers import ascii_mail_address


class Smtp(msgspec.Struct, frozen=True, kw_only=True):
    """A mail server."""

    host: str
    port: int
    user: str = ""
    password: Secret = Secret("")
    tls: Literal["none", "starttls", "implicit"] = "none"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the process from its environment; the repr shows no secrets."""

    database_url: Secret = Secret("")
    """Empty: the embedded Postgres in ``data_dir``."""
    pooler: Literal["none", "transaction"] = "none"
    """Connection pooler between Pointsman and PostgreSQL."""
    listen_dsn: Secret = Secret("")
    """Address of PostgreSQL without the pooler, for LISTEN/NOTIFY only."""
    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""
    config: Path | None = None
    data_dir: Path
    smtp: Smtp | None = None
    mail_from: str = ""
    max_connections: int = 1000
    max_connections_per_address: int = 50
    """0: no limit."""
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Proxies whose X-Forwarded-For header is trusted."""
    webhook_max_bytes: int = 2**20
    intake_max_bytes: int = 2**20
    secret_keys: tuple[Secret, ...] = ()
    admin_token_sha256: bytes | None = None
    outbound_hosts: frozenset[str] = frozenset()
    outbound_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    plugins: tuple[str, ...] | None = None
    """The plugins that may be imported; None: all that are installed."""
    log: Literal["json", "pretty"] = "pretty"
    forgejo_url: str = ""
    forgejo_api_token: Secret = Secret("")

    @property
    def base_url(self) -> str:
        """Return our address as other machines see it, without a trailing slash."""
        if self.public_url:
            return self.public_url
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Return the default data directory, below the XDG base directory for data."""
    base = environ.get("XDG_DATA_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".local" / "share"
    )
    return Path(base) / "pointsman"


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the environment. Raises ConfigError with every mistake."""
    reader = _EnvironmentReader(environ)
    settings = reader.read()
    if reader.problems:
        raise ConfigError(reader.problems)
    return settings


class _EnvironmentReader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self.environ.get(name, "").strip() or default

    def wrong(self, name: str, problem: str, cure: str) -> None:
        self.problems.append(f"{name}: {problem}; {cure}")

    def read(self) -> Settings:
        host, port = self.listen()
        hosts, networks = self.outbound()
        log = self.text("POINTSMAN_LOG", "pretty" if os.isatty(2) else "json")
        if log not in ("json", "pretty"):
            self.wrong("POINTSMAN_LOG", f"{log!r} is no format", "set json or pretty")
            log = "json"
        config = self.text("POINTSMAN_CONFIG")
        if config and not Path(config).is_file():
            self.wrong("POINTSMAN_CONFIG", f"{config} is not a file", "give the path of a TOML file")
        pooler = self.text("POINTSMAN_POOLER", "none")
        if pooler not in ("none", "transaction"):
            self.wrong(
                "POINTSMAN_POOLER",
                f"{pooler!r} is no pooler's mode",
                "set transaction, or none for session mode",
            )
            pooler = "none"
        plugins = self.text("POINTSMAN_PLUGINS")
        admin = self.text("POINTSMAN_ADMIN_TOKEN")
        if admin and len(admin) < 16:
            self.wrong(
                "POINTSMAN_ADMIN_TOKEN",
                "is shorter than 16 characters",
                "make one with `openssl rand -hex 32`",
            )
        return Settings(
            database_url=Secret(self.database_url()),
            pooler=pooler,  # type: ignore[arg-type]
            listen_dsn=Secret(self.listen_dsn()),
            host=host,
            port=port,
            public_url=self.url("POINTSMAN_PUBLIC_URL"),
            config=Path(config) if config else None,
            data_dir=Path(self.text("POINTSMAN_DATA_DIR") or default_data_dir(self.environ))
            .expanduser()
            .absolute(),
            smtp=self.smtp(),
            mail_from=self.mail_from(),
            max_connections=self.number("POINTSMAN_MAX_CONNECTIONS", 1000, 20, 100_000),
            max_connections_per_address=self.number("POINTSMAN_MAX_CONNECTIONS_PER_ADDRESS", 50, 0, 100_000),
            trusted_proxies=self.proxies(),
            intake_max_bytes=self.number("POINTSMAN_INTAKE_MAX_BYTES", 2**20, 2**16, 25 * 2**20),
            webhook_max_bytes=self.number("POINTSMAN_WEBHOOK_MAX_BYTES", 2**20, 2**16, 25 * 2**20),
            secret_keys=self.secret_keys(),
            admin_token_sha256=sha256(admin.encode()) if admin else None,
            outbound_hosts=hosts,
            outbound_networks=networks,
            plugins=tuple(plugin for plugin in re.split(r"[,\s]+", plugins) if plugin) if plugins else None,
            log=log,  # type: ignore[arg-type]
            forgejo_url=self.url("FORGEJO_URL"),
            forgejo_api_token=Secret(self.text("FORGEJO_API_TOKEN")),
        )

    def database_url(self) -> str:
        name = "POINTSMAN_DATABASE_URL" if self.text("POINTSMAN_DATABASE_URL") else "DATABASE_URL"
        url = self.text(name)
        if url and not url.startswith(("postgresql://", "postgres://")):
            self.wrong(name, "is no Postgres address", "write postgresql://user:password@host:5432/database")
        return url

    def listen_dsn(self) -> str:
        name = "POINTSMAN_LISTEN_DSN"
        url = self.text(name)
        if url and not url.startswith(("postgresql://", "postgres://")):
            self.wrong(name, "is no Postgres address", "write postgresql://user:password@host:5432/database")
        elif url and not (self.text("POINTSMAN_DATABASE_URL") or self.text("DATABASE_URL")):
            self.wrong(name, "is set without POINTSMAN_DATABASE_URL", "set that too, or take this one out")
        return url

    def listen(self) -> tuple[str, int]:
        text = self.text("POINTSMAN_LISTEN", "127.0.0.1:8080")
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^:\[\]\s]*)):(\d{1,5})", text)
        if match is None or int(match[3]) > 65535:
            self.wrong("POINTSMAN_LISTEN", f"{text!r} is no address", "write host:port, such as 0.0.0.0:8080")
            return "127.0.0.1", 8080
        return match[1] or match[2] or "0.0.0.0", int(match[3])  # noqa: S104

    def number(self, name: str, default: int, least: int, most: int) -> int:
        text = self.text(name)
        if not text:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            self.wrong(name, f"{text!r} is no number that fits", f"give one from {least} to {most}")
            return default
        return int(text)

    def proxies(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        networks = []
        for part in re.split(r"[,\s]+", self.text("POINTSMAN_TRUSTED_PROXIES")):
            try:
                if part:
                    networks.append(ipaddress.ip_network(part.strip("[]"), strict=False))
            except ValueError:
                self.wrong(
                    "POINTSMAN_TRUSTED_PROXIES",
                    f"{part!r} is no network",
                    "write addresses and CIDRs with commas between, such as 10.0.0.0/8,192.168.7.3",
                )
        return tuple(networks)

    def url(self, name: str) -> str:
        text = self.text(name).rstrip("/")
        if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
            shown = "its value" if "@" in text else repr(text)  # a credential may precede the @
            self.wrong(name, f"{shown} is no web address", "write https://host or https://host/path")
            return ""
        return text

    def outbound(
        self,
    ) -> tuple[frozenset[str], tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]]:
        hosts, networks = set(), []
        for part in re.split(r"[,\s]+", self.text("POINTSMAN_OUTBOUND_ALLOW")):
            if not part:
                continue
            try:
                networks.append(ipaddress.ip_network(part.strip("[]"), strict=False))
            except ValueError:
                if (
                    re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", part)
                    and not part[0].isdigit()
                ):
                    hosts.add(part.lower())
                else:
                    self.wrong(
                        "POINTSMAN_OUTBOUND_ALLOW",
                        f"{part!r} is neither a host nor a network",
                        "write names and CIDRs with commas between, such as forgejo.lan,10.2.0.0/16",
                    )
        return frozenset(hosts), tuple(networks)

    def smtp(self) -> Smtp | None:
        text = self.text("POINTSMAN_SMTP_URL")
        if not text:
            return None
        cure = "write smtp://user:password@host:587?starttls or smtps://user:password@host"
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError:
            self.wrong("POINTSMAN_SMTP_URL", "can't be read", cure)
            return None
        options = set(parse_qs(url.query, keep_blank_values=True))
        if url.scheme not in ("smtp", "smtps") or not url.hostname or options - {"starttls"}:
            self.wrong("POINTSMAN_SMTP_URL", "is no mail server's address", cure)
            return None
        implicit = url.scheme == "smtps"
        return Smtp(
            host=url.hostname,
            port=port or (465 if implicit else 587 if "starttls" in options else 25),
            user=unquote(url.username or ""),
            password=Secret(unquote(url.password or "")),
            tls="implicit" if implicit else "starttls" if "starttls" in options else "none",
        )

    def mail_from(self) -> str:
        sender = self.text("POINTSMAN_MAIL_FROM")
        if sender and not _is_mailbox(sender):
            self.wrong(
                "POINTSMAN_MAIL_FROM", f"{sender!r} is no mail address", "write Support <support@example.com>"
            )
        if self.text("POINTSMAN_SMTP_URL") and not sender:
            self.wrong(
                "POINTSMAN_MAIL_FROM",
                "is missing",
                "give the sender of our mails, since a mail server is set",
            )
        return sender

    def secret_keys(self) -> tuple[Secret, ...]:
        keys = []
        for number, key in enumerate(re.split(r"[,\s]+", self.text("POINTSMAN_SECRET_KEYS")), 1):
            if not key:
                continue
            try:
                Fernet(key)
            except ValueError:
                self.wrong(
                    "POINTSMAN_SECRET_KEYS",
                    f"key number {number} is no Fernet key",
                    "make one with `pointsman generate-key`; several have commas between, the newest first",
                )
            keys.append(Secret(key))
        return tuple(keys)


def _is_mailbox(text: str) -> bool:
    """Return whether a text is a mail address, alone or as ``Name <address>``."""
    if not re.fullmatch(r"[^\s<>@]+@[^\s<>@]+|[^<>\r\n]*<[^\s<>@]+@[^\s<>@]+>", text):
        return False
    try:
        ascii_mail_address(parseaddr(text)[1])
    except ValueError:
        return False
    return True
