"""Helpers for authors of trackers: texts, markers, mail addresses, untrusted JSON, paging, webhook registration.

Pure functions except ``read_pages`` and ``WebhookRegistration``. A plugin may use all, some or none of them.
"""

from __future__ import annotations

from pointsman.plugin_api.helpers.json_values import (
    account,
    comment_ref,
    format_time,
    issue_ref,
    objects_at,
    parse_time,
    positive_int,
    text_at,
    web_url,
)
from pointsman.plugin_api.helpers.mail_addresses import ascii_mail_address
from pointsman.plugin_api.helpers.markers import embed_marker, find_markers
from pointsman.plugin_api.helpers.paging import Page, objects_in, read_pages
from pointsman.plugin_api.helpers.requests import number_in_path, unexpected_response
from pointsman.plugin_api.helpers.texts import (
    CUT_NOTE,
    Size,
    clean_text,
    cut_notes,
    cut_text,
    label_names,
    short_text,
    title_line,
    utf8_size,
    utf16_size,
)
from pointsman.plugin_api.helpers.webhooks import WebhookRegistration

__all__ = [
    "CUT_NOTE",
    "Page",
    "Size",
    "WebhookRegistration",
    "account",
    "ascii_mail_address",
    "clean_text",
    "comment_ref",
    "cut_notes",
    "cut_text",
    "embed_marker",
    "find_markers",
    "format_time",
    "issue_ref",
    "label_names",
    "number_in_path",
    "objects_at",
    "objects_in",
    "parse_time",
    "positive_int",
    "read_pages",
    "short_text",
    "text_at",
    "title_line",
    "unexpected_response",
    "utf8_size",
    "utf16_size",
    "web_url",
]
