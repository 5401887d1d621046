"""Convert Markdown to Atlassian Document Format: always a valid document, the same for the same text.

The nodes and what each may contain: https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/ and
the pages of the nodes beside it. Markdown allows more than ADF does, so that unsupported content of quotes and list
items is flattened. Text stays text: there are no mentions, no media and no HTML, and links lead to http, https and
mailto only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

Node = dict[str, Any]

TEXT_LIMIT = 24_000
"""The largest size of a document, see ``size``. Jira refuses more than 32,767 characters and does not say how it
counts them, so there is a margin.
"""
PLAIN_LIMIT = 8_000
"""The largest text in the plain form, which is tried when Jira refuses the rich form."""
_PARSE_LIMIT = 32_000
_HREF_LIMIT = 2_000
_HREF_ROOM = 20_000
_NESTING = 30

_MARKDOWN = MarkdownIt("commonmark", {"html": False, "maxNesting": _NESTING}).enable(
    ["table", "strikethrough"]
)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_LANGUAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+#._-]{0,29}")
_HOST = re.compile(r"[a-z0-9_][a-z0-9._-]*|[0-9a-f:.]+")
_MARKS = {"strong_open": "strong", "em_open": "em", "s_open": "strike"}
_INSIDE = {"paragraph", "bulletList", "orderedList", "codeBlock"}
"""What both a quote and a list item may contain."""


def document(markdown: str, limit: int = TEXT_LIMIT) -> Node:
    """Return the document of a Markdown text. A text that is too long is cut, and the document says so at its end."""
    text = clean(markdown)
    tokens = _MARKDOWN.parse(text[:_PARSE_LIMIT])
    if any(token.level >= _NESTING - 1 for token in tokens):
        # The parser drops what is nested deeper; such text is rare, and nothing may be lost.
        return plain_document(markdown, limit)
    content = _Renderer().render(tokens)
    kept = _shorten(content, limit)
    if kept != content or len(text) > _PARSE_LIMIT:
        kept.append(_cut_note(len(text)))
    return _doc(kept)


def plain_document(markdown: str, limit: int = PLAIN_LIMIT) -> Node:
    """Return the Markdown text itself in paragraphs without any marks: Jira could refuse nothing but the text."""
    text = clean(markdown)
    content = [_paragraph([_text(line)]) for line in text[:limit].split("\n") if line.strip()]
    if len(text) > limit:
        content.append(_cut_note(len(text)))
    return _doc(content)


def clean(text: str) -> str:
    """Return the text with one kind of line end and without characters that JSON or XML readers refuse."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def size(nodes: Sequence[Node]) -> int:
    """Return the size of nodes: their text, the URLs of their links, and a little for each node."""
    total = 0
    for node in nodes:
        total += 8 + len(node.get("text", "")) + size(node.get("content", ()))
        total += sum(len(mark["attrs"]["href"]) for mark in node.get("marks", ()) if mark["type"] == "link")
    return total


def _doc(content: list[Node]) -> Node:
    return {"version": 1, "type": "doc", "content": content}


def _text(text: str, marks: Sequence[Node] = ()) -> Node:
    return {"type": "text", "text": text, "marks": list(marks)} if marks else {"type": "text", "text": text}


def _paragraph(content: list[Node]) -> Node:
    return {"type": "paragraph", "content": content} if content else {"type": "paragraph"}


def _cut_note(length: int) -> Node:
    note = f"[Cut here: the whole text has {length} characters, more than Jira takes.]"
    return _paragraph([_text(note, [{"type": "em"}])])


def _shorten(nodes: list[Node], room: int) -> list[Node]:
    """Return as many of the nodes as fit, in order. Text is cut; rows of a table are kept or dropped whole."""
    kept: list[Node] = []
    for node in nodes:
        needed = size([node])
        if needed <= room:
            kept.append(node)
            room -= needed
            continue
        if node["type"] == "text" and room > 8:
            kept.append({**node, "text": node["text"][: room - 8]})
        elif "content" in node and node["type"] != "tableRow":
            content = _shorten(node["content"], room - 8)
            if content:
                kept.append({**node, "content": content})
        break
    return kept


class _Renderer:
    """One pass over the parser's tokens. Open blocks stay on a stack until their content is complete."""

    def __init__(self) -> None:
        self._open: list[list[Node]] = [[]]
        self._href_room = _HREF_ROOM
        self._close: dict[str, Callable[[Token, list[Node]], list[Node]]] = {
            "paragraph_close": lambda _, inside: [_paragraph(inside)] if inside else [],
            "heading_close": self._heading,
            "blockquote_close": lambda _, inside: _holding("blockquote", _fit(inside)),
            "bullet_list_close": lambda _, inside: _holding("bulletList", inside),
            "ordered_list_close": lambda _, inside: _holding("orderedList", inside),
            "list_item_close": self._list_item,
            "table_close": self._table,
            "thead_close": lambda _, inside: inside,
            "tbody_close": lambda _, inside: inside,
            "tr_close": lambda _, inside: _holding("tableRow", inside),
            "th_close": lambda _, inside: [
                {"type": "tableHeader", "attrs": {}, "content": [_paragraph(inside)]}
            ],
            "td_close": lambda _, inside: [
                {"type": "tableCell", "attrs": {}, "content": [_paragraph(inside)]}
            ],
        }

    def render(self, tokens: Sequence[Token]) -> list[Node]:
        starts: list[int] = []
        for token in tokens:
            if token.type == "ordered_list_open":
                starts.append(int(token.attrs.get("start", 1)))
            if token.nesting == 1:
                self._open.append([])
            elif token.nesting == -1:
                inside = self._open.pop()
                close = self._close.get(token.type)
                result = close(token, inside) if close else inside
                if token.type == "ordered_list_close":
                    start = starts.pop()
                    result = [{**node, "attrs": {"order": start}} for node in result]
                self._open[-1].extend(result)
            else:
                self._open[-1].extend(self._leaf(token))
        return self._open[0]

    def _leaf(self, token: Token) -> list[Node]:
        if token.type == "inline":
            return self._inline(token.children or [])
        if token.type in {"fence", "code_block"}:
            return [_code_block(token.content, token.info)]
        if token.type == "hr":
            return [{"type": "rule"}]
        text = token.content.strip()
        return [_paragraph([_text(text)])] if text else []

    def _heading(self, token: Token, inside: list[Node]) -> list[Node]:
        return (
            [{"type": "heading", "attrs": {"level": int(token.tag[1])}, "content": inside}] if inside else []
        )

    def _list_item(self, _: Token, inside: list[Node]) -> list[Node]:
        content = _fit(inside)
        if not content or content[0]["type"] in {"bulletList", "orderedList"}:
            content.insert(0, _paragraph([]))
        return [{"type": "listItem", "content": content}]

    def _table(self, _: Token, inside: list[Node]) -> list[Node]:
        attrs = {"isNumberColumnEnabled": False, "layout": "default"}
        return [{"type": "table", "attrs": attrs, "content": inside}] if inside else []

    # -- text ----------------------------------------------------------------------------------------------------

    def _inline(self, tokens: Sequence[Token]) -> list[Node]:
        nodes: list[Node] = []
        marks: list[str] = []
        links: list[str] = []
        for token in tokens:
            kind = token.type
            if kind in _MARKS:
                marks.append(_MARKS[kind])
            elif kind in {"strong_close", "em_close", "s_close"}:
                marks.pop()
            elif kind == "link_open":
                links.append(str(token.attrs.get("href", "")))
            elif kind == "link_close":
                _add(nodes, self._url_beside(links.pop()), [])
            elif kind == "hardbreak":
                nodes.append({"type": "hardBreak"})
            elif kind == "softbreak":
                _add(nodes, " ", self._mark(marks, links, code=False))
            elif kind == "image":
                source = str(token.attrs.get("src", ""))
                around = links or [source]
                _add(nodes, token.content or source, self._mark(marks, around, code=False))
                _add(nodes, "" if links else self._url_beside(source), [])
            else:
                _add(nodes, token.content, self._mark(marks, links, code=kind == "code_inline"))
        return nodes

    def _mark(self, marks: Sequence[str], links: Sequence[str], *, code: bool) -> list[Node]:
        """Return the marks in a fixed order. Jira refuses code together with marks other than a link.

        https://developer.atlassian.com/cloud/jira/platform/apis/document/marks/code/
        """
        kept: list[Node] = []
        if links and self._may_link(links[-1]):
            kept.append({"type": "link", "attrs": {"href": links[-1]}})
        if code:
            return [*kept, {"type": "code"}]
        return [*kept, *({"type": name} for name in ("strong", "em", "strike") if name in marks)]

    def _may_link(self, href: str) -> bool:
        """Return whether a URL becomes a link. The sum of all URLs is limited: one definition can be used very often."""
        if not is_web_address(href) or len(href) > self._href_room:
            return False
        self._href_room -= len(href)
        return True

    def _url_beside(self, href: str) -> str:
        """Return the text for a URL that can't be a link, so that nothing is lost."""
        return "" if is_web_address(href) or not href or len(href) > _HREF_LIMIT else f" ({href})"


def is_web_address(href: str) -> bool:
    """Return whether a URL is well formed and can be followed from a tracker: http, https or mailto."""
    if len(href) > _HREF_LIMIT or not href.isascii() or not href.isprintable() or " " in href:
        return False
    try:
        parts = urlsplit(href)
        _ = parts.port
    except ValueError:
        return False
    if parts.scheme == "mailto":
        return "@" in parts.path
    return parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.hostname or "") is not None


def _add(nodes: list[Node], text: str, marks: list[Node]) -> None:
    """Append text, joined to the previous text if that has the same marks. Empty text makes no node."""
    if not text:
        return
    last = nodes[-1] if nodes else None
    if last and last["type"] == "text" and last.get("marks", []) == marks:
        last["text"] += text
    else:
        nodes.append(_text(text, marks))


def _holding(kind: str, content: list[Node]) -> list[Node]:
    return [{"type": kind, "content": content}] if content else []


def _code_block(code: str, info: str) -> Node:
    node: Node = {"type": "codeBlock"}
    language = info.split(maxsplit=1)[0] if info.strip() else ""
    if _LANGUAGE.fullmatch(language):
        node["attrs"] = {"language": language.lower()}
    code = code.removesuffix("\n")
    if code:
        node["content"] = [_text(code)]
    return node


def _fit(nodes: list[Node]) -> list[Node]:
    """Return the nodes as a quote or a list item may contain them.

    https://developer.atlassian.com/cloud/jira/platform/apis/document/nodes/blockquote/
    https://developer.atlassian.com/cloud/jira/platform/apis/document/nodes/listItem/
    """
    fitting: list[Node] = []
    for node in nodes:
        kind = node["type"]
        if kind in _INSIDE:
            fitting.append(node)
        elif kind == "blockquote":
            fitting.extend(node["content"])
        elif kind == "heading":
            fitting.append(_paragraph([_strong(inline) for inline in node["content"]]))
        elif kind == "rule":
            fitting.append(_paragraph([_text("---")]))
        else:
            fitting.extend(_row_as_text(row) for row in node["content"])
    return fitting


def _strong(node: Node) -> Node:
    names = {mark["type"] for mark in node.get("marks", ())}
    if node["type"] != "text" or names & {"strong", "code"}:
        return node
    marks = node.get("marks", [])
    at = 1 if "link" in names else 0
    return {**node, "marks": [*marks[:at], {"type": "strong"}, *marks[at:]]}


def _row_as_text(row: Node) -> Node:
    inline: list[Node] = []
    for index, cell in enumerate(row["content"]):
        if index:
            _add(inline, " | ", [])
        inline.extend(cell["content"][0].get("content", ()))
    return _paragraph(inline)
