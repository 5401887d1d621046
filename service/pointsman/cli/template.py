"""``pointsman template``: preview what templates render for a request, without a database."""

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
from pointsman.content.redaction.outgoing_filter import redaction_summary
from pointsman.delivery.preview import PARTS, Part, Preview, PreviewTarget, previews
from pointsman.domain.routing import Route
from pointsman.errors import PointsmanError
from pointsman.operations.route_file import load_routes, read_request

_KEY = b"preview"
"""The key of placeholders for secrets; an installation has another one, so its placeholders differ."""
_HEADINGS = {
    "title": "title",
    "body": "body",
    "comment": "comment",
    "mail_subject": "e-mail, subject",
    "mail_body": "e-mail",
}


@click.group()
def template() -> None:
    """Preview custom templates for issues, comments and e-mails."""


@template.command()
@source_option
@click.option(
    "--route",
    "route_name",
    metavar="NAME",
    help="Use the templates of this route, by name or number, whether it matches or not.",
)
@click.option("--part", type=click.Choice(PARTS), help="Show only this part.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    default="-",
    help="The request's body. Default: standard input.",
)
@header_option
@config_option
@json_option
@with_settings
def preview(
    settings: Settings,
    *,
    source: str | None,
    route_name: str | None,
    part: Part | None,
    file: Path,
    headers: tuple[str, ...],
    config: Path | None,
    as_json: bool,
) -> None:
    """Show what would be sent for a request. Exit code 1 if a template fails.

    Nothing is stored, applied or sent: neither a database nor secrets are needed.
    """
    routes = load_routes(settings, config or settings.config)
    route = _find_route(routes.routes, route_name) if route_name is not None else None
    body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    request_source, reports = read_request(routes, source, headers, body)
    assert request_source.plugin is not None
    targets = {
        number: PreviewTarget(slug, redact)
        for number, (slug, redact) in enumerate(zip(routes.slugs, routes.redact, strict=True))
    }
    results = [
        result
        for report in reports
        for result in previews(
            request_source.slug,
            request_source.plugin.ticket_kind,
            report,
            routes.routes,
            targets,
            _KEY,
            base_url=settings.public_url or "https://pointsman.example",
            parts=(part,) if part is not None else PARTS,
            route=route,
        )
    ]
    if as_json:
        print_json(results)
    else:
        for line in _lines(results):
            click.echo(line)
    if any(result.problem for result in results):
        sys.exit(1)


def _find_route(routes: Sequence[Route], name: str) -> Route:
    for route in routes:
        if name in (route.options.name, str(route.position)):
            return route
    names = ", ".join(route.options.name or str(route.position) for route in routes) or "none"
    raise PointsmanError(f"there is no route {name!r}; there are {names}")


def _lines(results: Sequence[Preview]) -> Iterator[str]:
    if not results:
        yield "the request is valid and contains no report: nothing would be sent"
    for result in results:
        templates = (
            f"with the templates of route {result.route}" if result.route else "with the built-in templates"
        )
        yield f"== {result.destination or 'no destination'}, {templates}"
        if result.masked:
            yield f"redacted: {redaction_summary(result.masked)}"
        if result.problem:
            yield f"rendered with the built-in templates instead: {result.problem}"
        for part, heading in _HEADINGS.items():
            text = getattr(result, part)
            if text is not None:
                yield f"-- {heading}"
                yield text
