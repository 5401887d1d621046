"""Find secrets by the name beside them: ``key=value``, JSON, YAML, headers, queries, XML elements, options."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from pointsman.content.redaction.heuristics import (
    is_code,
    is_empty_value,
    is_harmless_name,
    is_random,
    is_suspicious,
    kind_of_name,
    looks_secret,
)
from pointsman.content.redaction.patterns import TEMPLATE, Span

# The search starts at each sign and matches the name backwards in the reversed text: there are far fewer signs than words.
_SIGN = re.compile(r"=>|:=|[=:]|%3[ADad]")
_NAME_BACKWARDS = re.compile(r"""([ \t]{0,8}+)((?>(?:["'\\\])]|22%|;touq&|D5%){0,4}))([\w.-]{1,80}+)""")
_SPACE = re.compile(r"[ \t]{0,8}+")

_JUDGED_LENGTH = 256
"""Number of characters of a value that are judged; a secret is masked as a whole."""

_RANDOM = re.compile(
    r"""(?:[bruBRU]?["'`]|\\+["']|%22|&quot;)?([A-Za-z0-9+/_~-]{20,128}+={0,2})(?![A-Za-z0-9+/_~=-])"""
)
_QUOTED = re.compile(
    r"""(?:\s{0,12}+string\(\d{1,6}\)\s)?[bruBRU]?(?:"((?>(?:[^"\\\r\n]++|\\.)*))("?)|'((?>(?:[^'\\\r\n]++|\\.)*))('?)"""
    r"""|`([^`\r\n]*+)(`?)|\\+"([^"\\\r\n]*+)(\\?)|\\+'([^'\\\r\n]*+)(\\?)|(?:%22|&quot;)([^%&\s]*+)([%&]?))"""
)
_LISTED = re.compile(r"\[[^\[\]]{0,4096}+")
_IN_LIST = re.compile(r""""([^"\r\n]{1,512})"|'([^'\r\n]{1,512})'""")
_HEADER = re.compile(r"""[^\r\n"'\\]++""")
_FIRST_WORD = re.compile(r"""[^\s"'\\]{1,64}+""")
_SCHEME = re.compile(
    r"(?i)[ \t]*(?:bearer|basic|token|digest|negotiate|apikey|key|hmac|aws4-hmac-sha256)[ \t]+"
)
_LINE_BEFORE = re.compile(r"""[ \t\["'>#-]*+(?:export[ \t]+|set[ \t]+|env[ \t]+|ENV[ \t]+|[$>+][ \t]+)?""")
_LINE_BEFORE_LIMIT = 60
_PAIR = re.compile(
    r"""(?:[nN][aA][mM][eE]|[kK][eE][yY])["']?[ \t]{0,4}+[:=][ \t]{0,4}+["']?([\w.-]{2,80}+)["']?[\s,]{1,40}+["']?[vV][aA][lL][uU][eE]["']?"""
    r"""[ \t]{0,4}+[:=][ \t]{0,4}+(?:"((?>(?:[^"\\\r\n]|\\.){0,4096}))"|'([^'\r\n]{0,4096}+)'|([^\s,}"']{1,4096}+))"""
)
_ELEMENT = re.compile(r"<([\w:.-]{2,80}+)(?:[ \t][^<>]{0,200}+)?>([^<]{1,4096}+)</")
_OPTION = re.compile(r"--([A-Za-z][\w-]{1,60}+)[ \t]{1,4}+([^\s\"'-][^\s\"']{0,1024}+)")


class _Bare(msgspec.Struct, frozen=True):
    """Patterns of an unquoted value: the part that is judged, and the whole value."""

    judged: re.Pattern[str]
    whole: re.Pattern[str]


def _bare_of(unit: str) -> _Bare:
    return _Bare(re.compile(f"(?>(?:{unit}){{1,{_JUDGED_LENGTH}}})"), re.compile(f"(?>(?:{unit})+)"))


_PLAIN = _bare_of(r"""[^\s"'<>,;&|)\]}\\]""")
_LINE = _bare_of(r"""[^\s"']""")
_QUERY = _bare_of(r"""[^\s"'<>&#;\\)\]}]""")
_ENCODED = _bare_of(r"""[^\s"'<>&%]|%(?!2[26]|0[AaDd])[0-9A-Fa-f]{2}""")


class _NamedValue(msgspec.Struct, frozen=True):
    """A name, its sign, and the positions where name and value begin."""

    name: str
    start: int
    at: int
    sign: str
    closed: str
    """Quotes and brackets between the name and its sign."""
    spaced: bool


def find_assigned(text: str, small: str) -> Iterator[Span]:
    """Yield values whose names mark them as secrets. ``small`` is the text in lower case."""
    yield from _find_signed(text)
    if "value" in small:
        for match in _PAIR.finditer(text):
            group = match.lastindex or 0
            if _is_named_secret(match[1], match[group]) and not is_code(match[group][:_JUDGED_LENGTH]):
                yield (*match.span(group), kind_of_name(match[1])[0])
    if "</" in text:
        for match in _ELEMENT.finditer(text):
            if _is_named_secret(match[1], match[2].strip()):
                yield (*match.span(2), kind_of_name(match[1])[0])
    if "--" in text:
        for match in _OPTION.finditer(text):
            kind, always = kind_of_name(match[1])
            if kind and always and not is_code(match[2][:_JUDGED_LENGTH]) and not is_empty_value(match[2]):
                yield (*match.span(2), kind)


def _is_named_secret(name: str, value: str) -> bool:
    kind, always = kind_of_name(name)
    return bool(kind and value and not is_empty_value(value) and (always or is_suspicious(kind, value)))


def _find_signed(text: str) -> Iterator[Span]:
    covered, length, turned = 0, len(text), text[::-1]
    for sign in _SIGN.finditer(text):
        start, end = sign.span()
        if start < covered or text[end : end + 1] == text[end - 1]:
            continue
        before = _NAME_BACKWARDS.match(turned, length - start)
        if before is None or before[3].isdigit():
            continue
        name = before[3][::-1]
        kind, always = kind_of_name(name)
        at = end
        if text[end : end + 1] in {" ", "\t"} and (space := _SPACE.match(text, end)):
            at = space.end()
        if not kind:
            if (value := _RANDOM.match(text, at)) and not is_harmless_name(name) and is_random(value[1]):
                covered = value.end(1)
                yield (*value.span(1), "token")
            continue
        named = _NamedValue(name, length - before.end(), at, sign[0], before[2], bool(before[1]) or at > end)
        for span in _find_value(text, named, kind, always=always):
            covered = max(covered, span[1])
            yield span


def _find_value(text: str, named: _NamedValue, kind: str, *, always: bool) -> Iterator[Span]:
    at = named.at
    if quoted := _QUOTED.match(text, at):
        group = (quoted.lastindex or 2) - 1
        yield from _find_quoted(
            text, named, kind, quoted.span(group), always=always, ended=bool(quoted[group + 1])
        )
    elif (
        always and text.startswith("[", at) and (inside := _LISTED.match(text, at)) and inside.end() > at + 1
    ):
        for item in _IN_LIST.finditer(text, at, inside.end()):
            yield (*item.span(item.lastindex or 0), kind)
    elif kind in {"cookie", "authorization"} and always and named.sign == ":":
        # a header: the rest of the line is the value
        scheme = _SCHEME.match(text, at)
        start = scheme.end() if scheme else at
        first = _FIRST_WORD.match(text, start)
        if first and not is_empty_value(first[0]) and (header := _HEADER.match(text, start)):
            value = header[0].rstrip()
            if len(value) >= 4:
                yield start, start + len(value), kind
    else:
        yield from _find_bare(text, named, kind, always=always)


def _find_quoted(
    text: str, named: _NamedValue, kind: str, span: tuple[int, int], *, always: bool, ended: bool
) -> Iterator[Span]:
    start, end = span
    if scheme := _SCHEME.match(text, start, end):
        start = scheme.end()
    value = text[start:end].strip()
    # in 'token: ' + token the name is inside the quotes, and program code follows
    if not value or is_empty_value(value) or (not ended and value[0] in ")+,.;]"):
        return
    if not always:
        if is_suspicious(kind, value):
            yield start, end, kind
        return
    # after a word of prose the name is prose as well: Unexpected token: 'export'
    in_prose = named.sign == ":" and not named.closed and _is_after_word(text, named.start)
    long_enough = len(value) >= 3 or (len(value) == 2 and value.isalnum())
    if long_enough and (not in_prose or looks_secret(value)) and not TEMPLATE.fullmatch(value):
        yield start, end, kind


def _is_after_word(text: str, at: int) -> bool:
    return at >= 2 and text[at - 1] == " " and (text[at - 2].isalnum() or text[at - 2] in "'\"")


def _find_bare(text: str, named: _NamedValue, kind: str, *, always: bool) -> Iterator[Span]:
    """Yield an unquoted value, judged more strictly: program code, prose and data look alike here."""
    at = named.at
    before = text[named.start - 1 : named.start]
    in_query = before in {"?", "&"} or (named.sign == "=" and before == ";") or named.sign[0] == "%"
    on_line = not in_query and _starts_line(text, named.start)
    form = _ENCODED if named.sign[0] == "%" else _QUERY if in_query else _LINE if on_line else _PLAIN
    match = form.judged.match(text, at)
    if match is None or len(match[0]) < 2 or text.startswith("[", at):
        return
    value = match[0] if in_query else match[0].rstrip(".,;:")
    if (
        kind == "token"
        and (scheme := _SCHEME.match(text, at))
        and (rest := _PLAIN.whole.match(text, scheme.end()))
    ):
        if looks_secret(rest[0]):
            yield (*rest.span(), kind)
        return
    if always:
        is_secret = _is_literal(text, named, value, in_query=in_query, on_line=on_line)
    else:
        is_secret = is_suspicious(kind, value) and not is_code(value)
    if is_secret:
        end = at + len(value)
        if len(match[0]) == _JUDGED_LENGTH and (whole := form.whole.match(text, at)):
            end = whole.end()
        yield at, end, kind


def _starts_line(text: str, at: int) -> bool:
    line = text.rfind("\n", max(0, at - _LINE_BEFORE_LIMIT), at) + 1
    if line == 0 and at > _LINE_BEFORE_LIMIT:
        return False
    prefix = _LINE_BEFORE.match(text, line, at)
    return prefix is not None and prefix.end() == at


def _is_literal(text: str, named: _NamedValue, value: str, *, in_query: bool, on_line: bool) -> bool:
    """Return whether this is a literal value and neither a word of prose nor program code."""
    if is_empty_value(value):
        return False
    if in_query:
        return len(value) >= 3 and not is_code(value)
    end = named.at + len(value)
    follows = text[end : end + 1]
    if is_code(value) or follows in {"(", "["} or "(" in value[1:]:
        return looks_secret(value) and "(" not in value and follows not in {"(", "["}
    if named.name.lower() in {"pwd", "oldpwd"} and value[0] in "/~":
        return False
    if value.replace("_", "a").isalpha():
        if on_line:
            return follows in {"", "\n", "\r"} or named.name.isupper()
        return not named.spaced and not (follows in {")", ","} and _is_in_call(text, named.start))
    if on_line or not named.spaced:
        return len(value) >= 4 or value.isdigit()
    return looks_secret(value) or (len(value) >= 6 and any(c.isdigit() for c in value))


def _is_in_call(text: str, at: int) -> bool:
    """Return whether a parenthesis is open before this position in its line."""
    line = text[max(text.rfind("\n", max(0, at - 200), at), at - 200, 0) : at]
    return line.count("(") > line.count(")")
