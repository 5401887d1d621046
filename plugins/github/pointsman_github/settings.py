"""The settings of one GitHub destination."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pointsman.plugin_api import PluginSettings, Secret
from pointsman_github import wire

_REPOSITORY = re.compile(r"[A-Za-z0-9-]+/(?!\.{1,2}\Z)[A-Za-z0-9._-]+")
_KEY_CURE = "give the PEM file that GitHub let you download, whole, from -----BEGIN to END-----"


class GitHubSettings(PluginSettings, frozen=True, kw_only=True):
    """Settings of one destination, and of its credential: an account's token or a GitHub App."""

    token: Annotated[
        Secret, msgspec.Meta(description="Fine-grained token with Issues: read and write; or a GitHub App")
    ] = Secret("")
    app_id: Annotated[
        int | str, msgspec.Meta(description="Instead of token: id (or client id) of a GitHub App")
    ] = ""
    installation_id: Annotated[
        int | str, msgspec.Meta(description="Where the App is installed: the number in its settings' address")
    ] = ""
    private_key: Annotated[Secret, msgspec.Meta(description="The App's private key, in PEM")] = Secret("")
    repository: Annotated[str, msgspec.Meta(description="owner/repo")]
    labels: Annotated[tuple[str, ...], msgspec.Meta(description="Labels of every issue, by name")] = ()
    assignees: Annotated[
        tuple[str, ...], msgspec.Meta(description="Logins that every issue is assigned to")
    ] = ()
    url: Annotated[
        str, msgspec.Meta(description="Address of the API; https://HOST/api/v3 for an Enterprise Server")
    ] = "https://api.github.com"

    def __post_init__(self) -> None:
        """Refuse unusable values and say what to write instead."""
        _check_url(self.url)
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError(
                f"repository {self.repository!r} is not owner/repo: write it like acme/shop, without a host"
            )
        app = {
            "app_id": str(self.app_id).strip(),
            "installation_id": str(self.installation_id).strip(),
            "private_key": self.private_key.reveal().strip(),
        }
        present = [name for name, value in app.items() if value]
        token = self.token.reveal().strip()
        if token and present:
            raise ValueError(
                f"token and {present[0]} are both set: keep token for an account, or the three of a GitHub App"
            )
        if not present:
            _check_token(token)
        elif len(present) < len(app):
            missing = ", ".join(name for name in app if name not in present)
            raise ValueError(f"{missing} is missing: a GitHub App needs {', '.join(app)}")
        else:
            _check_app(app["app_id"], app["installation_id"])
            self.app_key()
        for label in self.labels:
            if wire.label_names([label]) == ():
                raise ValueError(
                    f"label {label!r} is empty or too long: {wire.LABEL_CHARACTERS} characters at most"
                )
        if not all(name.strip() for name in self.assignees):
            raise ValueError("assignees holds an empty name: leave it out")

    @property
    def is_app(self) -> bool:
        """Return whether a GitHub App signs in, and not an account."""
        return bool(self.private_key.reveal().strip())

    def app_key(self, *, is_checked: bool = False) -> rsa.RSAPrivateKey:
        """Return the App's private key. Line ends written as backslash and n, as in some environments, are
        understood.
        """
        text = self.private_key.reveal().strip().replace("\\n", "\n")
        try:
            key = serialization.load_pem_private_key(
                text.encode(), password=None, unsafe_skip_rsa_key_validation=is_checked
            )
        except TypeError:
            raise ValueError("private_key is locked with a password: give it without one") from None
        except Exception:  # noqa: BLE001 - the library raises several kinds; their words may quote the key
            raise ValueError(f"private_key is no private key: {_KEY_CURE}") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError(f"private_key is no RSA key, as an App's is: {_KEY_CURE}")  # noqa: TRY004
        return key

    @property
    def web(self) -> str:
        """Return the URL of the web site that belongs to the API."""
        parts = urllib.parse.urlsplit(self.url)
        host = parts.netloc.removeprefix("api.") if not parts.path.strip("/") else parts.netloc
        return f"{parts.scheme}://{host}"


def _check_url(url: str) -> None:
    """Refuse URLs other than https://api.github.com, https://api.NAME.ghe.com, and https://HOST/api/v3.

    https://docs.github.com/en/enterprise-server@latest/rest/using-the-rest-api/getting-started-with-the-rest-api
    """
    parts = urllib.parse.urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", url):
        raise ValueError(f"url {url!r} is no web address: leave it out, or write https://HOST/api/v3")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "url holds more than an address: write the credential into `token`, and nothing after the path"
        )
    if host in ("github.com", "www.github.com"):
        raise ValueError("url is the web site and not the API: leave it out, or write https://api.github.com")
    if parts.path.strip("/"):
        return
    if host.endswith(".ghe.com") and not host.startswith("api."):
        raise ValueError(f"url is the web site and not the API: write https://api.{host}")
    if "." in host and not host.startswith("api.") and not _is_number(host):
        raise ValueError(f"url is the web site of an Enterprise Server: write {parts.scheme}://{host}/api/v3")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_token(token: str) -> None:
    if not token:
        raise ValueError(
            "token is empty: make one at https://github.com/settings/personal-access-tokens,"
            " or set app_id, installation_id and private_key of a GitHub App"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError(
            "token holds a space or a letter no token has: copy it anew, without `Bearer` before it"
        )


def _check_app(app_id: str, installation_id: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", app_id):
        raise ValueError("app_id is neither a number nor a client id: the App's settings show both")
    if not re.fullmatch(r"[0-9]+", installation_id):
        raise ValueError(
            "installation_id is no number: it ends the address of the installation's settings,"
            " https://github.com/settings/installations/NUMBER"
        )
