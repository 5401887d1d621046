"""Convert Atlassian Document Format to wiki markup, which Jira Data Center takes: headings, lists, code, tables,
links.

All other text is escaped, so that no untrusted text becomes a mention, an image or a macro.

https://jira.atlassian.com/secure/WikiRendererHelpAction.jspa?section=all
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pointsman_jira import adf

TEXT_LIMIT = 32_000
"""The longest text. Data Center refuses more than 32,767 characters unless its administrator changed that."""

_SPECIAL = re.compile(
    r"&(?=#?\w+;)"  # what would be an entity
    r"|\\"
    r"|[:;](?=[DPp](?![A-Za-z0-9]))"  # smileys
    r"|^[hb](?=[1-6q]{1,2}\.\s)"  # headings and quotes
    r"|[{}\[\]|!?()]"  # macros, links, mentions, tables, images
    r"|[*_+^~-](?![A-Za-z0-9])|(?<![A-Za-z0-9])[*_+^~-]"  # looks, and lists; not within words
    r"|^\#"
)
_ADDRESS = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:!?)\]}]")


def text(markdown: str) -> str:
    """Return a Markdown text in wiki markup, cut if it is too long."""
    result = ""
    for limit in (adf.TEXT_LIMIT, adf.TEXT_LIMIT // 2, adf.TEXT_LIMIT // 8):
        result = rendered(adf.document(markdown, limit))
        if len(result) <= TEXT_LIMIT:
            break
    return result


def plain(markdown: str) -> str:
    """Return the Markdown text itself with everything escaped."""
    return rendered(adf.plain_document(markdown, adf.PLAIN_LIMIT // 2))


def rendered(document: adf.Node) -> str:
    """Return a document in wiki markup."""
    return "\n\n".join(_block(node) for node in document["content"]).strip()


def _block(node: adf.Node) -> str:
    kind, inside = node["type"], node.get("content", [])
    if kind == "heading":
        return f"h{node['attrs']['level']}. {_line(inside)}"
    if kind in {"bulletList", "orderedList"}:
        return "\n".join(_list(node, ""))
    if kind == "codeBlock":
        return _code("".join(piece["text"] for piece in inside), node.get("attrs", {}).get("language", ""))
    if kind == "blockquote":
        return "{quote}\n" + "\n\n".join(_block(child) for child in inside) + "\n{quote}"
    if kind == "table":
        return "\n".join(_row(row) for row in inside)
    return "----" if kind == "rule" else _inline(inside)


def _list(node: adf.Node, above: str) -> list[str]:
    sign = above + ("*" if node["type"] == "bulletList" else "#")
    lines = []
    for item in node["content"]:
        texts = []
        below: list[str] = []
        for child in item["content"]:
            if child["type"] in {"bulletList", "orderedList"}:
                below += _list(child, sign)
            elif child["type"] == "codeBlock":
                below.append(_block(child))
            else:
                texts.append(_inline(child.get("content", [])))
        lines += [f"{sign} {' '.join(filter(None, texts)) or '&nbsp;'}", *below]
    return lines


def _row(row: adf.Node) -> str:
    sign = "||" if all(cell["type"] == "tableHeader" for cell in row["content"]) else "|"
    cells = [_line(cell["content"][0].get("content", [])) or " " for cell in row["content"]]
    return sign + sign.join(cells) + sign


def _code(code: str, language: str) -> str:
    """Return a block of code. Nothing can be escaped in it, so that a block which contains its own end loses its
    format.
    """
    for sign in ("code", "noformat"):
        if "{" + sign not in code:
            opening = f"{{code:{language}}}" if sign == "code" and language.isalnum() else f"{{{sign}}}"
            return f"{opening}\n{code}\n{{{sign}}}"
    return _code(code.replace("{noformat", "{ noformat"), "")


def _line(nodes: Sequence[adf.Node]) -> str:
    return _inline(nodes).replace("\n", " ")


def _inline(nodes: Sequence[adf.Node]) -> str:
    return "".join("\n" if node["type"] == "hardBreak" else _piece(node) for node in nodes)


def _piece(node: adf.Node) -> str:
    marks: dict[str, Any] = {mark["type"]: mark for mark in node.get("marks", ())}
    content = node["text"]
    if "link" in marks:
        href = marks["link"]["attrs"]["href"]
        return f"[{_href(href)}]" if content == href else f"[{escaped(content)}|{_href(href)}]"
    if "code" in marks and content.strip() == content:
        return "{{" + escaped(content) + "}}"
    pieces, at = [], 0
    for match in _ADDRESS.finditer(content):
        if adf.is_web_address(match[0]):
            pieces += [escaped(content[at : match.start()]), f"[{_href(match[0])}]"]
            at = match.end()
    return "".join([*pieces, escaped(content[at:])])


def _href(address: str) -> str:
    return re.sub(r"[|\[\]{}\\^!]", lambda match: f"%{ord(match[0]):02X}", address)


def escaped(text: str) -> str:
    """Return a text without markup. What a backslash does not escape becomes an entity: two backslashes are a line
    break.
    """
    return _SPECIAL.sub(_harmless, text)


def _harmless(match: re.Match[str]) -> str:
    sign = match[0]
    if sign == "&":
        return "&amp;"
    return f"&#{ord(sign)};" if sign in "\\:;hb" else "\\" + sign
