"""Render operators' templates for issues, comments and e-mails: a small, bounded subset of Jinja2. Pure.

Untrusted values are objects that keep their raw text; filters work on the raw text, and a value becomes escaped Markdown
only when it is output. The result is parsed again and verified: code is still code, each link is the author's or ours, and
there is no HTML except a few plain tags. A template whose output contains active markup from a value is rejected.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Literal
from urllib.parse import unquote

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markdown_it import MarkdownIt
from markdown_it.token import Token

from pointsman.content import sanitize
from pointsman.content import template_context as values
from pointsman.content.render import TicketText
from pointsman.content.template_context import (
    EVENT_FIELDS,
    JOINER,
    REQUESTER_FIELDS,
    TICKET_FIELDS,
    VARIABLES,
    RenderOutput,
    TemplateContext,
)
from pointsman.domain.states import TicketKind

TemplateName = Literal["title", "body", "comment", "mail_subject", "mail_body"]
ONE_LINE = frozenset({"title", "mail_subject"})

SOURCE_LIMIT = 16_000
OUTPUT_LIMIT = 64_000
EMPTY = "line 1: it comes out empty"
EXAMPLE = TemplateContext(
    ticket=TicketText(
        id="0198f0c2-0000-7000-8000-000000000001",
        kind=TicketKind.ALERT,
        title="KeyError: 'basket'",
        source="shop",
        page="https://pointsman.example/console/tickets/0198f0c2-0000-7000-8000-000000000001",
    ),
    event_kind="opened",
    data={
        "text": "In `basket`, see https://errors.example/1",
        "code": "KeyError: 'basket'",
        "facts": [["Server", "web-1"]],
    },
    level="error",
    environment="production",
    release="1.4.2",
    url="https://errors.example/issues/1",
)
"""Values for the trial rendering of a new template."""
_MEMBERS = {"ticket": TICKET_FIELDS, "event": EVENT_FIELDS, "requester": REQUESTER_FIELDS}
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Const, nodes.Name, nodes.If, nodes.For),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.CondExpr, nodes.Keyword),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.List, nodes.Tuple, nodes.Neg),
)
"""Syntax nodes that a template may use. There are no calls, no arithmetic and no assignments, so nothing can grow."""
_LISTS = ("tags", "facts")
_TESTS = ("eq", "ne", "lt", "le", "gt", "ge", "==", "!=", "<", "<=", ">", ">=", "in", "defined", "none")
_HINTS = {
    nodes.Call: "there are no functions",
    nodes.Concat: "put {{ a }}{{ b }} in place of {{ a ~ b }}",
    nodes.Assign: "nothing can be set",
}

_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
_PLAIN_TAG = re.compile(r"</?(?:details|summary|br|hr|sub|sup|kbd)[ ]?/?>", re.IGNORECASE)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.ChainableUndefined, finalize=values.finalize, autoescape=False, cache_size=0
    )
    environment.globals.clear()
    environment.filters = dict(values.FILTERS)
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


_ENVIRONMENT = _environment()


@functools.lru_cache(maxsize=500)
def _compiled(source: str) -> jinja2.Template:
    if len(source) > SOURCE_LIMIT:
        raise ValueError(f"line 1: it has {len(source)} characters; {SOURCE_LIMIT} are allowed")
    try:
        tree = _ENVIRONMENT.parse(source)
        for line, problem in _problems(tree):
            raise ValueError(f"line {line}: {problem}")
        return _ENVIRONMENT.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise ValueError("line 1: it is nested too deeply") from error


def _problems(tree: nodes.Template) -> Iterator[tuple[int, str]]:
    """Yield the forbidden elements of a template with their lines."""
    for node in tree.find_all((nodes.Expr, nodes.Stmt)):
        if not isinstance(node, _ALLOWED):
            yield node.lineno, f"{type(node).__name__}: {_HINTS.get(type(node), 'is not for templates')}"
    for loop in tree.find_all(nodes.For):
        if loop.recursive or any(part.find(nodes.For) or isinstance(part, nodes.For) for part in loop.body):
            yield loop.lineno, "a loop in a loop is not for templates"
        if not (isinstance(loop.iter, nodes.Name) and loop.iter.name in _LISTS) and not (
            isinstance(loop.iter, nodes.Filter) and loop.iter.name == "lines"
        ):
            yield loop.lineno, "a loop goes over tags, or over the lines of a text: text | lines"
    for node in tree.find_all(nodes.Getattr):
        members = _MEMBERS.get(node.node.name) if isinstance(node.node, nodes.Name) else None
        if members is not None and node.attr not in members:
            yield node.lineno, f"there is no {node.attr!r} in it; there are {', '.join(members)}"
    for name in sorted(meta.find_undeclared_variables(tree) - set(VARIABLES)):
        line = min(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
        yield line, f"there is no {name!r}; there are {', '.join(VARIABLES)}"


def check(source: str) -> None:
    """Check a template and render it with example values. Raises ValueError with line and cause."""
    _compiled(source)
    try:
        render("body", source, EXAMPLE)
    except ValueError as error:
        if EMPTY not in str(error):
            raise


def render(name: TemplateName, source: str, context: TemplateContext) -> str:
    """Return a template's text for a ticket and its event. Raises ValueError with line and cause."""
    template = _compiled(source)
    output = RenderOutput(plain=name in ONE_LINE)
    parts: list[str] = []
    size = 0
    try:
        for part in template.generate(values.template_variables(context, output)):
            size += len(part)
            if size > OUTPUT_LIMIT:
                raise ValueError(f"line 1: it makes more than {OUTPUT_LIMIT} characters")  # noqa: TRY301
            parts.append(part)
    except Exception as error:
        raise ValueError(_runtime_error_text(error)) from error
    rendered = "".join(parts).strip()
    if name in ONE_LINE:
        line = sanitize.title(rendered) if name == "title" else sanitize.one_line(rendered, 200)
        if not line:
            raise ValueError(EMPTY)
        return line
    if not rendered:
        raise ValueError(EMPTY)
    _verify_output(rendered, source, output)
    return rendered


def _runtime_error_text(error: Exception) -> str:
    """Return the message of a template's runtime error, with its line."""
    if isinstance(error, ValueError) and str(error).startswith("line "):
        return str(error)
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: {type(error).__name__}: {str(error)[:200]}"


# -- verification of the output --------------------------------------------------------------------------------------


def _verify_output(rendered: str, source: str, output: RenderOutput) -> None:
    """Verify that only the author's text has active markup. Raises ValueError."""
    code: list[str] = []
    known = unquote(source)
    allowed = {unquote(url) for url in output.links}
    for token in _tokens(_MARKDOWN.parse(rendered)):
        line = (token.map[0] if token.map else 0) + 1
        if token.type in ("html_block", "html_inline"):
            rest = _PLAIN_TAG.sub("", token.content)
            if JOINER in rest or "<" in rest or "`" in rest:
                raise ValueError(
                    f"line {line} of its output: a value inside HTML, or HTML that is not allowed;"
                    " leave an empty line between a tag and a value"
                )
        elif token.type in ("code_inline", "fence", "code_block"):
            code.append(" ".join(token.content.split()))
        else:
            url = token.attrs.get("href") or token.attrs.get("src")
            if url and unquote(str(url)) not in allowed and unquote(str(url)) not in known:
                raise ValueError(
                    f"line {line} of its output: a value became the URL of a link; write {{{{ url | link }}}}"
                )
    actual_code = "\0".join(code)
    for expected in sorted((" ".join(expected.split()) for expected in output.code), key=len, reverse=True):
        before, match, after = actual_code.partition(expected) if expected else ("", "\0", actual_code)
        if not match:
            raise ValueError(
                "line 1: a value that should be code is not; look for a stray ` or a missing empty line"
            )
        actual_code = f"{before}\0{after}"


def _tokens(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _tokens(token.children or ())


__all__ = ["VARIABLES", "TemplateContext", "TemplateName", "check", "render"]
