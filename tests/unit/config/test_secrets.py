"""Secrets of the configuration: references, sealed literals, keys that change."""

import stat
from typing import Annotated

import msgspec
import pytest
from cryptography.fernet import Fernet

from pointsman.config.secrets import Vault, decode_secret, is_reference, key_file, secret_fields
from pointsman.errors import ConfigError
from pointsman.plugin_api import PluginSettings, Secret

NEW, OLD = (Secret(Fernet.generate_key().decode()) for _ in range(2))


def test_a_sealed_secret_opens_again_and_does_not_show():
    vault = Vault([NEW], {})
    sealed = vault.seal("hunter2é")
    assert "hunter2" not in repr(sealed)
    assert vault.resolve(sealed) == Secret("hunter2é")


def test_each_sealing_looks_different_and_has_the_same_digest():
    """By the digest an unchanged secret is known, so applying the same file again changes nothing."""
    vault = Vault([NEW], {})
    first, other = vault.seal("hunter2"), vault.seal("hunter2")
    assert first["sealed"] != other["sealed"]
    assert first["digest"] == other["digest"]
    assert vault.seal("hunter3")["digest"] != first["digest"]


def test_a_digest_can_not_be_compared_without_the_key():
    assert Vault([NEW], {}).seal("hunter2")["digest"] != Vault([OLD], {}).seal("hunter2")["digest"]


def test_after_a_change_of_keys_old_secrets_open_and_new_ones_are_sealed_with_the_new_key():
    old = Vault([OLD], {}).seal("hunter2")
    both = Vault([NEW, OLD], {})
    assert both.resolve(old) == Secret("hunter2")
    assert Vault([NEW], {}).resolve(both.seal("hunter2")) == Secret("hunter2")


@pytest.mark.parametrize("keys", [[NEW], []])
def test_without_its_key_a_sealed_secret_stays_shut_and_the_cure_is_told(keys):
    with pytest.raises(ValueError, match="POINTSMAN_SECRET_KEYS"):
        Vault(keys, {}).resolve(Vault([OLD], {}).seal("hunter2"))


def test_a_damaged_seal_is_told_from_a_secret():
    with pytest.raises(ValueError, match="POINTSMAN_SECRET_KEYS"):
        Vault([NEW], {}).resolve({"sealed": "é" * 20, "digest": ""})


def test_without_keys_nothing_can_be_sealed_and_the_cure_is_told():
    with pytest.raises(ValueError, match="POINTSMAN_SECRET_KEYS"):
        Vault([], {}).seal("hunter2")


def test_the_environment_is_read_when_asked_and_its_line_end_is_no_part_of_the_secret():
    environ = {}
    vault = Vault([], environ)
    with pytest.raises(ValueError, match="MY_TOKEN"):
        vault.resolve({"env": "MY_TOKEN"})
    environ["MY_TOKEN"] = " abc\n"
    assert vault.resolve({"env": "MY_TOKEN"}) == Secret("abc")


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_variable_is_no_secret(value):
    with pytest.raises(ValueError, match="MY_TOKEN"):
        Vault([], {"MY_TOKEN": value}).resolve({"env": "MY_TOKEN"})


def test_a_file_is_read_without_its_line_end(tmp_path):
    file = tmp_path / "token"
    file.write_text("abc\n")
    assert Vault([], {}).resolve({"file": str(file)}) == Secret("abc")


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe\x00"])
def test_a_file_that_holds_no_secret_is_named(tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"token (can't be read|is empty)"):
        Vault([], {}).resolve({"file": str(file)})


@pytest.mark.parametrize("reference", [{}, {"env": ""}, {"file": ""}, {"sealed": ""}, {"else": "x"}])
def test_what_refers_to_nothing_is_no_secret(reference):
    with pytest.raises(ValueError, match="is no secret"):
        Vault([NEW], {}).resolve(reference)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ({"env": "X"}, True),
        ({"file": "x"}, True),
        ({"sealed": "x", "digest": "y"}, True),
        ({"sha256": "x"}, True),
    ]
    + [(other, False) for other in ({}, {"a": 1}, "env", ["env"], None, 1)],
)
def test_what_is_a_reference(value, is_one):
    assert is_reference(value) is is_one


# -- the key file ----------------------------------------------------------------------------------------------------


def test_the_key_of_a_laptop_is_made_once_and_only_its_owner_reads_it(tmp_path):
    folder = tmp_path / "data" / "deeper"
    (key,) = key_file(folder)
    assert key_file(folder) == (key,)
    assert stat.S_IMODE((folder / "secret.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
    assert Vault([key], {}).resolve(Vault([key], {}).seal("x")) == Secret("x")


@pytest.mark.parametrize("content", [b"", b"no key\n", b"\xff"])
def test_a_damaged_key_file_is_named_and_not_replaced(tmp_path, content):
    """A new key in its place would make every sealed secret unreadable."""
    (tmp_path / "secret.key").write_bytes(content)
    with pytest.raises(ConfigError, match=r"secret\.key"):
        key_file(tmp_path)
    assert (tmp_path / "secret.key").read_bytes() == content


def test_a_folder_that_can_not_be_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="POINTSMAN_SECRET_KEYS"):
        key_file(tmp_path / "file" / "data")


# -- secrets in settings ---------------------------------------------------------------------------------------------


class Some(PluginSettings, frozen=True, kw_only=True):
    url: str
    token: Secret
    described: Annotated[Secret, msgspec.Meta(description="help")]
    perhaps: Secret | None = None


def test_the_secret_fields_of_settings_are_found_in_every_form():
    assert secret_fields(Some) == {"token", "described", "perhaps"}


def test_settings_take_secrets_and_do_not_show_them():
    settings = msgspec.convert(
        {"url": "x", "token": Secret("hunter2"), "described": "hunter3"}, Some, dec_hook=decode_secret
    )
    assert (settings.token, settings.described, settings.perhaps) == (
        Secret("hunter2"),
        Secret("hunter3"),
        None,
    )
    assert "hunter" not in f"{settings!r} {settings}"


def test_a_number_is_no_secret():
    with pytest.raises(msgspec.ValidationError, match="token"):
        msgspec.convert({"url": "x", "token": 5, "described": "x"}, Some, dec_hook=decode_secret)
