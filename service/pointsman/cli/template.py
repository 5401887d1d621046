"""``pointsman template``: what templates make of a request, without a database."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from pointsman.cli.common import (
    config_option,
    header_option,
    json_option,
    print_json,
    source_option,
    with_settings,
)
from pointsman.config.settings import Settings
from pointsman.content.redaction.outgoing_filter import masked_words
from pointsman.delivery.preview import PARTS, Part, Place, Preview, previews
from pointsman.domain.routing import Route
from pointsman.errors import PointsmanError
from pointsman.operations import route_dry_run

_KEY = b"preview"
"""What stands for secrets here; in an installation the same secret has another placeholder."""
_HEADS = {
    "title": "title",
    "body": "body",
    "comment": "comment",
    "mail_subject": "mail, subject",
    "mail_body": "mail",
}


@click.group()
def template() -> None:
    """Templates of your own for issues, comments and mails."""


@template.command()
@source_option
@click.option(
    "--route",
    "wanted",
    metavar="NAME",
    help="The route whose templates are tried, by name or number, fit or not.",
)
@click.option("--what", type=click.Choice(PARTS), help="Show this part alone.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    default="-",
    help="The request's body; standard input unless given.",
)
@header_option
@config_option
@json_option
@with_settings
def preview(
    settings: Settings,
    *,
    source: str | None,
    wanted: str | None,
    what: Part | None,
    file: Path,
    headers: tuple[str, ...],
    config: Path | None,
    as_json: bool,
) -> None:
    """Show what would be sent of a request, before it is sent; exit code 1 if a template fails.

    Nothing is kept, applied or sent: neither a database nor secrets are needed.
    """
    rules = route_dry_run.load(settings, config or settings.config)
    route = _route(rules.routes, wanted) if wanted is not None else None
    body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    reader, reports = route_dry_run.read_request(rules, source, headers, body)
    assert reader.plugin is not None
    places = {
        number: Place(slug, redact)
        for number, (slug, redact) in enumerate(zip(rules.slugs, rules.redacts, strict=True))
    }
    made = [
        one
        for report in reports
        for one in previews(
            reader.slug,
            reader.plugin.ticket_kind,
            report,
            rules.routes,
            places,
            _KEY,
            base_url=settings.public_url or "https://pointsman.example",
            parts=(what,) if what is not None else PARTS,
            route=route,
        )
    ]
    if as_json:
        print_json(made)
    else:
        for line in _lines(made):
            click.echo(line)
    if any(one.problem for one in made):
        sys.exit(1)


def _route(routes: Sequence[Route], wanted: str) -> Route:
    for one in routes:
        if wanted in (one.options.name, str(one.position)):
            return one
    named = ", ".join(one.options.name or str(one.position) for one in routes) or "none"
    raise PointsmanError(f"there is no route {wanted!r}; there are {named}")


def _lines(made: Sequence[Preview]) -> Iterator[str]:
    if not made:
        yield "the request is fine and concerns nobody: nothing would be sent"
    for one in made:
        words = f"in the words of route {one.route}" if one.route else "in the built-in words"
        yield f"== {one.destination or 'nowhere'}, {words}"
        if one.masked:
            yield f"masked: {masked_words(one.masked)}"
        if one.problem:
            yield f"in the built-in words after all: {one.problem}"
        for part, head in _HEADS.items():
            said = getattr(one, part)
            if said is not None:
                yield f"-- {head}"
                yield said
