"""Settings that work, and those that can't and say so."""

from __future__ import annotations

import re
from unittest import mock

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pointsman.plugin_api import Secret
from pointsman_github import GitHubTracker, pointsman_register_trackers
from pointsman_github.settings import GitHubSettings


def test_the_plugin_registers_its_tracker():
    register = mock.Mock()
    pointsman_register_trackers(register)
    register.assert_called_once_with(GitHubTracker)
    assert (GitHubTracker.kind, GitHubTracker.api_version) == ("github", 1)
    assert GitHubTracker.capabilities.settle_seconds == (20.0, 60.0)
    assert GitHubTracker.capabilities.close_reasons


@pytest.mark.parametrize(
    ("changed", "base"),
    [
        ({}, "https://api.github.com"),
        ({"url": "https://api.github.com/"}, "https://api.github.com"),
        ({"url": "https://github.example/api/v3/"}, "https://github.example/api/v3"),
        ({"url": "https://api.octo.ghe.com"}, "https://api.octo.ghe.com"),
        ({"url": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"url": "http://github-proxy:8080/"}, "http://github-proxy:8080"),
    ],
)
def test_what_goes_along_with_every_call(changed, base):
    settings = GitHubSettings(token=Secret("abc\n"), repository="acme/shop", **changed)
    connection = GitHubTracker.connection(settings)
    assert connection.base_url == base
    assert {name: value.reveal() for name, value in connection.headers.items()} == {
        "Authorization": "Bearer abc",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "pointsman",
    }
    assert "abc" not in repr(connection)


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        ({"url": "github.example"}, "https://HOST/api/v3"),
        ({"url": "https://github.com"}, "https://api.github.com"),
        ({"url": "https://me:pw@github.example"}, "into `token`"),
        ({"url": "https://github.example"}, "write https://github.example/api/v3"),
        ({"url": "https://github.example/"}, "write https://github.example/api/v3"),
        ({"url": "https://octo.ghe.com"}, "write https://api.octo.ghe.com"),
        ({"repository": "shop"}, "acme/shop"),
        ({"repository": "https://github.com/acme/shop"}, "without a host"),
        ({"repository": "acme/.."}, "acme/shop"),
        ({"repository": "acme/shop/"}, "acme/shop"),
        ({"token": Secret("")}, "token is empty"),
        ({"token": Secret("")}, "app_id, installation_id and private_key of a GitHub App"),
        ({"token": Secret("Bearer abc")}, "copy it anew"),
        ({"labels": ("x" * 51,)}, "50 characters"),
        ({"assignees": ("dev", " ")}, "leave it out"),
    ],
)
def test_settings_that_can_not_work_say_the_cure(changed, cure):
    values = {"token": Secret("hush"), "repository": "acme/shop", **changed}
    with pytest.raises(ValueError, match=re.escape(cure)) as caught:
        GitHubSettings(**values)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "web"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.octo.ghe.com/", "https://octo.ghe.com"),
        ("https://github.example:8443/api/v3", "https://github.example:8443"),
        ("https://api.github.example/api/v3", "https://api.github.example"),
    ],
)
def test_the_web_site_that_belongs_to_an_api(url, web):
    assert GitHubSettings(token=Secret("abc"), repository="acme/shop", url=url).web == web


# -- a GitHub App --------------------------------------------------------------------------------------------------------


def test_an_app_signs_each_request_and_has_no_credential_of_the_connection(app_pem):
    for text in (app_pem, app_pem.replace("\n", "\\n"), f"\n{app_pem}\n"):
        settings = GitHubSettings(
            app_id=1234, installation_id="77", private_key=Secret(text), repository="acme/shop"
        )
        assert settings.is_app
        assert GitHubTracker.connection(settings).headers.keys() == {
            "Accept",
            "X-GitHub-Api-Version",
            "User-Agent",
        }


@pytest.mark.parametrize(
    ("changed", "cure"),
    [
        ({"token": Secret("hush")}, "token and app_id are both set"),
        ({"app_id": ""}, "app_id is missing: a GitHub App needs app_id, installation_id, private_key"),
        ({"installation_id": " "}, "installation_id is missing"),
        ({"private_key": Secret("")}, "private_key is missing"),
        ({"app_id": "my app"}, "client id"),
        ({"installation_id": "acme"}, "installation_id is no number"),
        ({"private_key": Secret("hush")}, "whole, from -----BEGIN"),
        ({"private_key": Secret("-----BEGIN RSA PRIVATE KEY-----\nhush")}, "whole, from -----BEGIN"),
    ],
)
def test_there_is_exactly_one_way_to_sign_in(app_pem, changed, cure):
    values = {
        "app_id": 1234,
        "installation_id": 77,
        "private_key": Secret(app_pem),
        "repository": "acme/shop",
    }
    with pytest.raises(ValueError, match=re.escape(cure)) as caught:
        GitHubSettings(**{**values, **changed})
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_key_with_a_password_and_a_key_of_another_kind_are_refused_with_the_cure(app_pem):
    key = serialization.load_pem_private_key(app_pem.encode(), password=None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    ).decode()
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for text, cure in ((locked, "without one"), (curve.decode(), "no RSA key")):
        with pytest.raises(ValueError, match=cure):
            GitHubSettings(app_id=1, installation_id=2, private_key=Secret(text), repository="acme/shop")
