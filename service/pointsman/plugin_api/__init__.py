"""Public contract between Pointsman and its plugins.

A plugin is a distribution with an entry point in the group ``pointsman``. The module that it names implements one or both
hooks of ``hookspecs``, which are called once at start::

    from pointsman.plugin_api import hookimpl

    @hookimpl
    def pointsman_register_trackers(register):
        register(MyTracker)

Everything else is a method call on the classes below. A plugin never opens an HTTP session and never retries: it raises
the error that fits, and the core decides what happens next.

The errors, as a tree::

    PluginError
    ├── Unavailable      certainly not done; the service can't be reached or can't serve now
    ├── RateLimited      not done; try again after ``retry_after`` seconds
    ├── Refused          not done; the content is at fault, and a repetition fails the same way
    ├── AuthFailed       not done; the credential is missing, wrong or expired
    ├── Misconfigured    not done; a right, a project or a setting is missing or wrong, which concerns the destination
    ├── Blocked          not done; something about this one issue prevents it: only its lane waits
    ├── NotFound         not done; the issue or comment does not exist (any more)
    ├── IssueMoved       not done; the issue is elsewhere now
    ├── Conflict         not done; changed by someone else meanwhile: read and decide again
    └── UnknownOutcome   may have been done: the core verifies it before it tries again

A timeout counts as UnknownOutcome. Any other exception is a defect of the plugin: it is treated as an unknown outcome, tried
three times and then given up with the plugin's name.
"""

from __future__ import annotations

from pointsman.crypto import hmac_sha256_matches, standard_webhook_key, standard_webhook_matches
from pointsman.plugin_api.capabilities import SourceCapabilities, TrackerCapabilities
from pointsman.plugin_api.client import ApiClient
from pointsman.plugin_api.errors import (
    AuthFailed,
    Blocked,
    Conflict,
    IssueMoved,
    Misconfigured,
    NotFound,
    PluginError,
    RateLimited,
    Refused,
    Unavailable,
    UnknownOutcome,
)
from pointsman.plugin_api.hookspecs import hookimpl
from pointsman.plugin_api.settings import PluginSettings, Secret, SettingsT
from pointsman.plugin_api.source import (
    MAX_REPORTS,
    Action,
    BackfillResult,
    EnrichmentResult,
    Problem,
    Report,
    Source,
    Unreadable,
)
from pointsman.plugin_api.tracker import Tracker
from pointsman.plugin_api.values import (
    Actor,
    CloseReason,
    CommentRef,
    Connection,
    Draft,
    Finding,
    IgnoredWebhook,
    IssueRef,
    IssueRemoved,
    IssueState,
    Marker,
    Person,
    Quota,
    Response,
    State,
    WebhookEvent,
)

__all__ = [
    "API_VERSION",
    "MAX_REPORTS",
    "Action",
    "Actor",
    "ApiClient",
    "AuthFailed",
    "BackfillResult",
    "Blocked",
    "CloseReason",
    "CommentRef",
    "Conflict",
    "Connection",
    "Draft",
    "EnrichmentResult",
    "Finding",
    "IgnoredWebhook",
    "IssueMoved",
    "IssueRef",
    "IssueRemoved",
    "IssueState",
    "Marker",
    "Misconfigured",
    "NotFound",
    "Person",
    "PluginError",
    "PluginSettings",
    "Problem",
    "Quota",
    "RateLimited",
    "Refused",
    "Report",
    "Response",
    "Secret",
    "SettingsT",
    "Source",
    "SourceCapabilities",
    "State",
    "Tracker",
    "TrackerCapabilities",
    "Unavailable",
    "UnknownOutcome",
    "Unreadable",
    "WebhookEvent",
    "hmac_sha256_matches",
    "hookimpl",
    "standard_webhook_key",
    "standard_webhook_matches",
]

API_VERSION = 1
"""The major version of this contract. A class names the one it was written for in ``api_version``."""
