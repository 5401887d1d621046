"""Find secrets by their form: vendor tokens, keys, passwords in URLs and sentences, card and account numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import luhn
from stdnum.iso7064 import mod_97_10

from pointsman.content.redaction.heuristics import is_code, is_empty_value, is_random, looks_secret

Span = tuple[int, int, str]
"""Start and end of a secret in a text, and its kind."""

# All patterns begin with literal text, which is found fast, and none has a look-behind at its start. The character before
# a match is checked afterwards.

# -- vendor tokens -------------------------------------------------------------------------------------------------

# kind, texts of which one must occur before the pattern is tried, pattern whose first group is the secret
_TABLE: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("aws-key", ("AKIA", "ASIA", "ABIA", "ACCA"), r"((?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})(?![A-Za-z0-9])"),
    ("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"(gh[pousr]_[A-Za-z0-9]{30,255}+)"),
    ("github-token", ("github_pat_",), r"(github_pat_[A-Za-z0-9_]{22,255}+)"),
    (
        "gitlab-token",
        (
            "glpat-",
            "gldt-",
            "glrt-",
            "glcbt-",
            "glptt-",
            "glft-",
            "glimt-",
            "glagent-",
            "glsoat-",
            "gloas-",
            "glffct-",
        ),
        r"(gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas|ffct)-[\w.-]{18,255}+)",
    ),
    ("slack-token", ("xox", "xapp-"), r"((?:xox[abceoprs]|xapp)-[\w-]{10,255}+)"),
    (
        "webhook-address",
        ("hooks.slack.com", "webhook", "/webhooks/"),
        (
            r"(?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks|webhook\.office\.com/webhookb2)"
            r"/([\w/@.-]{20,255}+)"
        ),
    ),
    (
        "stripe-key",
        ("k_live_", "k_test_", "whsec_"),
        r"((?:[rs]k_(?:live|test)|whsec)_[A-Za-z0-9+/=]{16,255}+)",
    ),
    ("google-key", ("AIza",), r"(AIza[\w-]{35})"),
    (
        "google-key",
        ("GOCSPX-", "ya29.", "1//0"),
        r"(GOCSPX-[\w-]{20,40}+|ya29\.[\w.-]{20,512}+|1//0[\w-]{30,120}+)",
    ),
    ("twilio-key", ("SK",), r"(SK[0-9a-f]{32})(?![0-9a-zA-Z])"),
    ("sendgrid-key", ("SG.",), r"(SG\.[\w-]{16,32}\.[\w-]{16,64}+)"),
    (
        "mail-key",
        ("key-", "-us", "xkeysib-"),
        r"(key-[0-9a-f]{32}|[0-9a-f]{32}-us\d{1,2}|xkeysib-[0-9a-f]{64}-\w{16})(?!\w)",
    ),
    ("npm-token", ("npm_",), r"(npm_[A-Za-z0-9]{36})"),
    ("pypi-token", ("pypi-",), r"(pypi-[\w-]{32,1024}+)"),
    ("azure-key", ("Q~",), r"([\w~.-]{3}\dQ~[\w~.-]{31,34})"),
    ("openai-key", ("sk-",), r"(sk-(?=[\w-]{0,200}?\d)(?=[\w-]{0,200}?[A-Z])[\w-]{20,255}+)"),
    ("telegram-token", (":AA",), r"(\d{8,10}:AA[\w-]{33})"),
    ("vault-token", ("hvs.", "hvb.", "hvr."), r"(hv[sbr]\.[\w-]{20,512}+)"),
    (
        "vendor-token",
        (
            "dop_v1_",
            "doo_v1_",
            "dor_v1_",
            "shpat_",
            "shpca_",
            "shppa_",
            "shpss_",
            "sq0",
            "hf_",
            "dckr_",
            "dapi",
            "lin_api_",
            "ntn_",
            "PMAK-",
            "NRAK-",
            "glsa_",
            "glc_",
            "sntry",
        ),
        (
            r"(do[opr]_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|sq0(?:atp|csp|idp)-[\w-]{22,64}+|hf_[A-Za-z0-9]{34}"
            r"|dckr_[op]at_[\w-]{24,64}+|dapi[0-9a-f]{32}|lin_api_\w{40}|ntn_\w{40,60}+|PMAK-[\w-]{59}|NRAK-[A-Z0-9]{27}"
            r"|glsa_\w{32}_[0-9a-fA-F]{8}|glc_[\w+/=]{32,400}+|sntry[su]_[\w+/=.-]{32,400}+)"
        ),
    ),
    (
        "vendor-token",
        (
            "ATATT",
            "AGE-SECRET",
            "pscale_",
            "figd_",
            "sbp_",
            "rubygems_",
            "dp.",
            "gsk_",
            "xai-",
            "AKCp",
            "HRKU-",
            "EAA",
        ),
        (
            r"(ATATT3[\w=-]{60,400}+|AGE-SECRET-KEY-1[0-9A-Z]{58}|pscale_(?:tkn|pw|oauth)_[\w.-]{32,64}+|figd_[\w-]{40,64}+"
            r"|sbp_[0-9a-f]{40}|rubygems_[0-9a-f]{48}|dp\.(?:pt|st|ct)\.[\w.-]{40,80}+|gsk_\w{48,64}+|xai-\w{70,100}+"
            r"|AKCp[A-Za-z0-9]{60,80}+|HRKU-[\w-]{36,80}+|EAA[A-Z][A-Za-z0-9]{60,300}+)"
        ),
    ),
    ("jwt", ("eyJ",), r"(eyJ(?<![\w-]eyJ)[\w-]{8,8192}+\.[\w-]{8,16384}+(?:\.[\w-]{0,16384}+){1,3})"),
    (
        "private-key",
        ("PRIVATE KEY",),
        (
            r"(-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?>(?:[^-]|-(?!----)){0,16384})"
            r"(?:-----END [A-Z0-9 ]{1,60}-----)?)"
        ),
    ),
)
_VENDORS = tuple((kind, hints, re.compile(pattern)) for kind, hints, pattern in _TABLE)


def _is_inside_word(text: str, at: int) -> bool:
    return at > 0 and text[at - 1].isalnum()


def lower_in_place(text: str) -> str:
    """Return the text in lower case with unchanged positions."""
    small = text.lower()
    return small if len(small) == len(text) else text.replace("\u0130", "i").lower()


def find_tokens(text: str, small: str) -> Iterator[Span]:
    """Yield vendor tokens, keys, passwords in URLs and headers, and cards. ``small`` is the text in lower case."""
    for kind, hints, pattern in _VENDORS:
        if any(hint in text for hint in hints):
            for match in pattern.finditer(text):
                if not _is_inside_word(text, match.start()):
                    yield (*match.span(1), kind)
    if "://" in text and "@" in text:
        yield from _find_url_credentials(text)
    if "bearer " in small or "basic " in small:
        yield from _find_header_credentials(text)
    yield from _find_stated_passwords(text, small)
    yield from _find_numbers(text)


def continues_word(text: str, at: int, signs: str) -> bool:
    """Return whether the character before ``at`` belongs to the same word."""
    return at > 0 and (text[at - 1].isalnum() or text[at - 1] in signs)


# -- URLs, headers, sentences --------------------------------------------------------------------------------------

_AUTHORITY = re.compile(r"""://([^\s/?#"'<>\\,()]{1,512}+)""")
_LONG_USERINFO = re.compile(r"""[^\s"'<>@]{1,256}+@(?=[\w\[])""")
_HARMLESS_USERS = frozenset({"git", "hg", "svn", "ssh", "root", "user", "username"})
TEMPLATE = re.compile(r"\$?\{\{?[^{}]{0,200}\}\}?|\$[A-Z_][A-Z0-9_]*|%s|%\(\w+\)s|\{\}|<[\w ]+>")
"""Placeholder for a value that is filled in later."""
_HEADER_VALUE = re.compile(r"[Bb](?:(?i:earer)|(?i:asic))[ \t]{1,4}+([A-Za-z0-9._~+/=-]{12,8192}+)")
_SQL_PASSWORD_PREFIXES = ("identified by '", "identified by password '", "password '")
_SQL_PASSWORD = re.compile(r"[^'\r\n]{1,256}(?=')")
_LOGIN = re.compile(r"login[ ]\S{1,100}[ ]password[ ](\S{3,256})")
_STATEMENT_VERBS = (" is ", " was ", " ist ", " war ", " lautet ", ": ")
_STATEMENT_SUBJECTS = ("password", "passwort", "passphrase", "passcode", "token", "api key", "secret", " pin")
_STATEMENT_VALUE = re.compile(r"""[ ]*:?[ ]*["']?([^\s"']{4,256}+)""")
_CURL_USER = re.compile(r"""-(?:u|-user)[ =]{0,2}+["']?[\w.@+-]{1,100}+:([^\s"']{3,256}+)""")


def _find_url_credentials(text: str) -> Iterator[Span]:
    """Yield the password of a URL's user information, or the whole of it where it is a single word."""
    for match in _AUTHORITY.finditer(text):
        start, end = match.span(1)
        host = match[1].rfind("@")
        if host < 0:
            user, colon, rest = match[1].partition(":")
            # a password may contain characters that should be escaped
            if (
                not colon
                or rest.isdigit()
                or match[1][0] == "["
                or text[end : end + 1] not in {"/", "?", "#"}
            ):
                continue
            longer = _LONG_USERINFO.match(text, start)
            if longer is None or longer.end() <= end:
                continue
            host = longer.end() - 1 - start
        user, colon, password = text[start : start + host].partition(":")
        if colon and password and not TEMPLATE.fullmatch(password) and not is_empty_value(password):
            yield start + len(user) + 1, start + host, "password"
            if len(user) >= 20 and looks_secret(user):
                yield start, start + len(user), "token"
        elif not colon and user not in _HARMLESS_USERS and len(user) >= 8:
            yield start, start + len(user), "token"


def _find_header_credentials(text: str) -> Iterator[Span]:
    for match in _HEADER_VALUE.finditer(text):
        value = match[1]
        if _is_inside_word(text, match.start()) or "=" in value.rstrip("="):
            continue
        if looks_secret(value) or is_random(value.ljust(20, "=")):
            yield (*match.span(1), "authorization")


def _ends_of(text: str, word: str) -> Iterator[int]:
    """Yield the end of each occurrence of a word."""
    at = text.find(word)
    while at >= 0:
        yield at + len(word)
        at = text.find(word, at + len(word))


def _find_stated_passwords(text: str, small: str) -> Iterator[Span]:
    """Yield passwords in SQL statements, sentences and commands."""
    for prefix in _SQL_PASSWORD_PREFIXES:
        for at in _ends_of(small, prefix):
            value = _SQL_PASSWORD.match(text, at)
            if value and not TEMPLATE.fullmatch(value[0]) and not is_empty_value(value[0]):
                yield (*value.span(), "password")
    for verb in _STATEMENT_VERBS:
        for at in _ends_of(small, verb):
            end = at - len(verb)
            stated = small.endswith(_STATEMENT_SUBJECTS, max(0, end - 12), end) and _STATEMENT_VALUE.match(
                text, at
            )
            if stated and _is_stated_secret(word := stated[1].rstrip(".,;:")):
                yield stated.start(1), stated.start(1) + len(word), "password"
    yield from _find_command_passwords(text, small)


def _is_stated_secret(word: str) -> bool:
    return looks_secret(word) or (word.isalnum() and not word.isalpha() and len(word) >= 4)


def _find_command_passwords(text: str, small: str) -> Iterator[Span]:
    if "login " in small:
        for match in _LOGIN.finditer(small):
            if not is_empty_value(match[1]):
                yield (*match.span(1), "password")
    if " -u" in text or " --user" in text:
        for match in _CURL_USER.finditer(text):
            if not continues_word(text, match.start(), "-") and not is_code(match[1]):
                yield (*match.span(1), "password")


# -- numbers -------------------------------------------------------------------------------------------------------

_CARD = re.compile(r"\d{4}(?:([ -])\d{4}\1\d{4}\1\d{1,7}|([ -])\d{6}\2\d{4,5}|\d{9,15})(?![\w/-]|[.,]\d)")
_CARD_KINDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}"
)
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?(?![\w/-])")


def _find_numbers(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = match[0].replace(" ", "").replace("-", "")
        if (
            _CARD_KINDS.fullmatch(digits)
            and luhn.is_valid(digits)
            and not continues_word(text, match.start(), "._,/-" if match[0] == digits else "./-")
        ):
            yield (*match.span(), "card")
    for match in _IBAN.finditer(text):
        if not _is_inside_word(text, match.start()) and _is_iban(match[0].replace(" ", "")):
            yield (*match.span(), "iban")


def _is_iban(text: str) -> bool:
    return 15 <= len(text) <= 34 and mod_97_10.is_valid(text[4:] + text[:4])
