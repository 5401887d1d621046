"""The contract between Pointsman and its plugins: what a stranger may rely on.

A plugin is a distribution with an entry point in the group ``pointsman``. The module it names has one or both
hooks, each called once at start::

    from pointsman.plugin_api import hookimpl

    @hookimpl
    def pointsman_register_trackers(register):
        register(MyTracker)

Everything after that is a plain method call on the classes below. A plugin never opens its own HTTP session and
never retries: it raises the error that fits, and the core decides what comes next.

The errors, as a tree::

    PluginError
    ├── Unavailable      surely not done; the service can't be reached or can't serve now
    ├── RateLimited      not done; come again after ``retry_after`` seconds
    ├── Refused          not done; the content is at fault, and a repeat fails alike
    ├── AuthFailed       not done; the credential is missing, wrong or expired
    ├── Misconfigured    not done; a right, a project or a setting is missing
    ├── NotFound         not done; the issue or comment is not there (any more)
    ├── IssueMoved       not done; the issue lives elsewhere now
    ├── Conflict         not done; somebody else changed it meanwhile: read and decide again
    └── UnknownOutcome   it may have been done: the core finds out before it tries again

A time-out counts as UnknownOutcome. Any other exception is a defect of the plugin: in doubt like UnknownOutcome, tried
three times and then given up with the plugin's name.
"""

from __future__ import annotations

from pointsman.crypto import hmac_sha256_matches, standard_webhook_key, standard_webhook_matches
from pointsman.plugin_api.errors import (
    AuthFailed,
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
from pointsman.plugin_api.source import (
    MAX_REPORTS,
    Action,
    BackfillResult,
    EnrichmentResult,
    Problem,
    Report,
    Source,
    SourceCapabilities,
    Unreadable,
)
from pointsman.plugin_api.tracker import (
    ApiClient,
    Tracker,
)
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
    PluginSettings,
    Quota,
    Response,
    Secret,
    State,
    TrackerCapabilities,
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
