"""The commands, and the texts that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pointsman.cli.main import main

ROOT = Path(__file__).parents[3]
TEXTS = [
    *(ROOT / "service" / "pointsman").rglob("*.py"),
    *(ROOT / "service" / "pointsman").rglob("*.html"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / "plugins").glob("*/README.md"),
    ROOT / "README.md",
    ROOT / "deploy" / "README.md",
    ROOT / "sql" / "README.md",
]


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_every_command_and_option_that_a_text_names_is_there():
    known = dict(commands(main))
    unknown = []
    for file in TEXTS:
        for text in re.findall(r"`pointsman ([a-z][^`]*)`", file.read_text("utf-8")):
            arguments = text.split()
            command = known.get((arguments[0],))
            subcommand = known.get(tuple(arguments[:2]))
            options = {
                option
                for candidate in (command, subcommand, known.get((arguments[0], "list")))
                if candidate is not None
                for parameter in candidate.params
                for option in parameter.opts
            }
            named = set(re.findall(r"--[a-z][a-z-]*", text))
            is_group = isinstance(command, click.Group) and re.fullmatch(r"[a-z]+", "".join(arguments[1:2]))
            if command is None or not named <= options or (is_group and subcommand is None):
                unknown.append(f"{file.relative_to(ROOT)}: pointsman {text}")
    assert unknown == []


@pytest.mark.parametrize("name", ["destinations", "tickets", "deliveries", "reports", "webhooks"])
def test_a_group_without_a_command_lists(name: str):
    """Options of ``list`` may follow the group directly."""
    group = main.commands[name]
    assert isinstance(group, click.Group)
    ctx = click.Context(group, info_name=name, help_option_names=["-h", "--help"])
    for arguments in ([], ["--json"]):
        assert group.parse_args(ctx, list(arguments)) is not None
        assert ctx._protected_args + ctx.args == ["list", *arguments]
    assert "  list " in CliRunner().invoke(main, [name, "--help"]).output


def test_the_help_of_every_command_begins_with_a_verb():
    for path, command in commands(main):
        first = (command.help or "").partition(" ")[0].rstrip(",")
        assert first.isalpha() and first.istitle(), path
        assert first not in ("A", "An", "The", "What", "Whether", "How", "Commands"), path
