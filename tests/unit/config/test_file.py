"""The configuration file: its contents, its mistakes with file, table and key, and the plan of changes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.config import diff
from pointsman.config import file as config_file
from pointsman.config.secrets import Vault, secret_fields
from pointsman.crypto import sha256
from pointsman.errors import ConfigError
from pointsman.plugin_api import PluginSettings, Secret
from pointsman.plugin_host import factory, snapshot
from pointsman.plugin_host.registry import Registry

QUICK = settings(deadline=None, max_examples=40)
KEY = Secret("6gPbCDWBO3oPg3pYG3m1-Jd6DTOl2sYKsbQKY4x6bZk=")
ENVIRON = {
    "SHOP_TOKEN": "shop-token-of-the-tests",
    "HELP_TOKEN": "help-token-of-the-tests",
    "FORGEJO_API_TOKEN": "forgejo-token",
    "HOOK": "hook-secret-of-the-tests",
}
VAULT = Vault([KEY], ENVIRON)

EXAMPLE = """
[[source]]
slug = "shop"
kind = "bugsink"
token = { env = "SHOP_TOKEN" }

[[source]]
slug = "helpdesk"
kind = "tickets"
token = { env = "HELP_TOKEN" }

[[destination]]
slug = "shop-issues"
tracker = "forgejo"
webhook_secrets = [{ env = "HOOK" }]
settings.url = "https://forgejo.example.com"
settings.token = { env = "FORGEJO_API_TOKEN" }
settings.repository = "acme/shop"
settings.labels = ["from-customers"]

[[route]]
match = { source = "shop", environment = "production" }
destination = "shop-issues"
continue = true

[[route]]
destination = ["shop-issues"]
"""


class Place(PluginSettings, frozen=True, kw_only=True):
    url: str
    token: Secret
    repository: str
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        if "/" not in self.repository:
            raise ValueError(f"repository {self.repository!r} is not owner/repo")


class Empty(PluginSettings, frozen=True, kw_only=True):
    pass


def kinds(**defaults: Any) -> config_file.InstalledKinds:
    return config_file.InstalledKinds(
        sources={"bugsink": Empty, "tickets": Empty},
        trackers={"forgejo": Place, "folder": Empty},
        check=factory.make_settings,
        secret_fields=secret_fields,
        defaults=defaults,
    )


def read(text, some=None, vault=VAULT):
    return config_file.read(text, "pointsman.toml", some or kinds(), vault)


def problems(text, some=None, vault=VAULT):
    with pytest.raises(ConfigError) as caught:
        read(text, some, vault)
    return caught.value.problems


def problem(text, **more):
    (message,) = problems(text, **more)
    return message


SHOP = '[[source]]\nslug = "shop"\nkind = "bugsink"\ntoken = { env = "SHOP_TOKEN" }\n'
ISSUES = (
    '[[destination]]\nslug = "issues"\ntracker = "forgejo"\nsettings.url = "https://x.test"\n'
    'settings.repository = "a/b"\nsettings.token = { env = "FORGEJO_API_TOKEN" }\n'
)

# -- contents of a file ----------------------------------------------------------------------------------------------


def test_the_example_is_read_whole():
    desired = read(EXAMPLE)
    assert desired.warnings == []
    assert desired.sources == [
        config_file.Source(slug="shop", kind="bugsink", settings={}, tokens=[{"env": "SHOP_TOKEN"}]),
        config_file.Source(slug="helpdesk", kind="tickets", settings={}, tokens=[{"env": "HELP_TOKEN"}]),
    ]
    assert desired.destinations == [
        config_file.Destination(
            slug="shop-issues",
            tracker="forgejo",
            settings={
                "url": "https://forgejo.example.com",
                "token": {"env": "FORGEJO_API_TOKEN"},
                "repository": "acme/shop",
                "labels": ["from-customers"],
            },
            webhook_secrets=[{"env": "HOOK"}],
        )
    ]
    assert desired.routes == [
        config_file.Route(
            position=1,
            match={"source": "shop", "environment": "production"},
            destinations=["shop-issues"],
            continues=True,
        ),
        config_file.Route(position=2, match={}, destinations=["shop-issues"], continues=False),
    ]


def test_the_example_is_taken_by_the_plugins_that_are_installed():
    registry = Registry.load()
    if "forgejo" not in registry.trackers:
        pytest.skip("the Forgejo plugin is not installed")
    assert len(read(EXAMPLE, snapshot.installed_kinds(registry, {})).destinations) == 1


def test_an_empty_file_asks_for_nothing():
    assert read("") == config_file.DesiredConfig(sources=[], destinations=[], routes=[], warnings=[])


def test_a_literal_token_is_kept_as_its_digest_and_warned_about():
    desired = read(SHOP.replace('{ env = "SHOP_TOKEN" }', '"a-literal-token-of-tests"'))
    assert desired.sources[0].tokens == [{"sha256": sha256(b"a-literal-token-of-tests").hex()}]
    (warning,) = desired.warnings
    assert "pointsman.toml: [[source]] shop: token" in warning
    assert "a-literal-token-of-tests" not in warning + repr(desired)


def test_several_tokens_are_valid_while_one_is_being_changed():
    desired = read(SHOP + 'tokens = [{ env = "HELP_TOKEN" }]\n')
    assert desired.sources[0].tokens == [{"env": "SHOP_TOKEN"}, {"env": "HELP_TOKEN"}]
    only = read(SHOP.replace('token = { env = "SHOP_TOKEN" }', 'tokens = [{ env = "HELP_TOKEN" }]'))
    assert only.sources[0].tokens == [{"env": "HELP_TOKEN"}]


def test_literal_secrets_of_a_destination_are_sealed():
    text = (
        ISSUES.replace('{ env = "FORGEJO_API_TOKEN" }', '"literal-token"')
        + 'webhook_secrets = ["literal-hook-secret"]\n'
    )
    (destination,) = read(text).destinations
    assert VAULT.resolve(destination.settings["token"]) == Secret("literal-token")
    assert VAULT.resolve(destination.webhook_secrets[0]) == Secret("literal-hook-secret")
    assert "literal" not in repr(destination)
    assert len(read(text).warnings) == 2


def test_a_secret_in_a_file_is_referred_to(tmp_path):
    (tmp_path / "token").write_text("shop-token-from-a-file\n")
    path = str(tmp_path / "token")
    desired = read(SHOP.replace('{ env = "SHOP_TOKEN" }', f"{{ file = '{path}' }}"))
    assert desired.sources[0].tokens == [{"file": path}]


def test_the_process_supplies_what_the_file_leaves_out():
    """FORGEJO_URL and FORGEJO_API_TOKEN: such values are not kept, so they can change with the process."""
    defaults = {"url": "https://codeberg.org", "token": {"env": "FORGEJO_API_TOKEN"}}
    text = '[[destination]]\nslug = "issues"\ntracker = "forgejo"\nsettings.repository = "a/b"\n'
    desired = read(text, kinds(forgejo=defaults))
    assert desired.destinations[0].settings == {"repository": "a/b"}
    assert desired.warnings == []
    own = read(text + 'settings.url = "https://x.test"\n', kinds(forgejo=defaults))
    assert own.destinations[0].settings == {"repository": "a/b", "url": "https://x.test"}
    assert "url" in problem(text, some=kinds(forgejo={"token": defaults["token"]}))


def test_limits_are_kept_as_far_as_they_are_given():
    desired = read(
        SHOP
        + "limits = { new_tickets_per_minute = 0 }\n"
        + ISSUES
        + "limits = { writes_per_minute = 30, at_once = 2 }\n"
    )
    assert desired.sources[0].limits == {"new_tickets_per_minute": 0}
    assert desired.destinations[0].limits == {"writes_per_minute": 30, "at_once": 2}
    assert read(ISSUES + "limits.at_once = 64\n").destinations[0].limits == {"at_once": 64}
    assert read(EXAMPLE).destinations[0].limits == {}


def test_how_much_is_masked_is_a_destinations_word():
    assert read(EXAMPLE).destinations[0].redact == "normal"
    assert read(ISSUES + 'redact = "strict"\n').destinations[0].redact == "strict"


# -- mistakes --------------------------------------------------------------------------------------------------------

RULE = "[[route]] number 1"
QUIET = "[[route]]\nquiet_hours = {{ from = '{}', to = '{}', zone = '{}', days = [{}] }}"
FORGEJO = '[[destination]]\nslug = "issues"\ntracker = "forgejo"\n'


@pytest.mark.parametrize(
    ("text", "table", "expected"),
    [
        (SHOP + "colour = 1", "[[source]] shop", ["colour"]),
        (ISSUES + "colour = 1", "[[destination]] issues", ["colour"]),
        ("[[route]]\ncolour = 1", "[[route]] number 1", ["colour"]),
        ("[[route]]\nmatch = { colour = 'x' }", "[[route]] number 1", ["match", "colour"]),
        (ISSUES + 'settings.colour = "x"', "[[destination]] issues", ["settings", "colour"]),
        (SHOP + "settings.colour = 1", "[[source]] shop", ["settings", "colour"]),
        ("[colour]\na = 1", "[colour]", ["[[source]]", "[[destination]]", "[[route]]"]),
        ('[source]\nslug = "shop"', "[source]", ["[[source]]"]),
        ("source = 5", "[source]", ["[[source]]"]),
        ("source = [5]", "[[source]] number 1", []),
        ('[[source]]\nkind = "bugsink"\ntoken = "12345678"', "[[source]] number 1", ["slug"]),
        ('[[source]]\nslug = "shop"\ntoken = "12345678"', "[[source]] shop", ["kind"]),
        (SHOP.replace("{ env", "5 # { env"), "[[source]] shop", ["token"]),
        (SHOP.replace('slug = "shop"', 'slug = "My Shop"'), "[[source]] My Shop", ["slug", "lower-case"]),
        (SHOP.replace('slug = "shop"', 'slug = "@mail"'), "[[source]] @mail", ["slug"]),
        (SHOP.replace('slug = "shop"', 'slug = "' + "a" * 64 + '"'), "[[source]] aaa", ["slug", "63"]),
        (SHOP + SHOP, "[[source]] shop", ["slug", "twice"]),
        (ISSUES + ISSUES, "[[destination]] issues", ["slug", "twice"]),
        ('[[source]]\nslug = "shop"\nkind = "bugsink"', "[[source]] shop", ["token", "missing"]),
        (SHOP.replace("SHOP_TOKEN", "NO_SUCH"), "[[source]] shop", ["token", "NO_SUCH"]),
        (
            SHOP.replace('{ env = "SHOP_TOKEN" }', '{ file = "/nowhere/x" }'),
            "[[source]] shop",
            ["token", "/nowhere/x"],
        ),
        (SHOP.replace('env = "SHOP', 'vault = "SHOP'), "[[source]] shop", ["token", "env", "file"]),
        (
            SHOP.replace('env = "SHOP_TOKEN"', 'env = "A", file = "b"'),
            "[[source]] shop",
            ["token", "env", "file"],
        ),
        (SHOP.replace('env = "SHOP_TOKEN"', 'sealed = "x"'), "[[source]] shop", ["token", "env", "file"]),
        (SHOP.replace('{ env = "SHOP_TOKEN" }', '"short"'), "[[source]] shop", ["token", "8 characters"]),
        (SHOP.replace("bugsink", "sentry"), "[[source]] shop", ["kind", "sentry", "bugsink, tickets"]),
        (
            ISSUES.replace("forgejo", "gitlab", 1),
            "[[destination]] issues",
            ["tracker", "gitlab", "folder, forgejo"],
        ),
        (ISSUES.replace('"a/b"', '"ab"'), "[[destination]] issues", ["settings", "owner/repo"]),
        (ISSUES + "settings.labels = 5", "[[destination]] issues", ["settings.labels"]),
        (ISSUES + "settings.labels = [1]", "[[destination]] issues", ["settings.labels"]),
        (ISSUES.replace('{ env = "FORGEJO_API_TOKEN" }', "5"), "[[destination]] issues", ["settings.token"]),
        (ISSUES.replace("FORGEJO_API", "NO_SUCH"), "[[destination]] issues", ["settings.token", "NO_SUCH"]),
        (
            ISSUES + f"webhook_secrets = ['{'x' * 15}']",
            "[[destination]] issues",
            ["webhook_secrets", "openssl"],
        ),
        (ISSUES + "webhook_secrets = ['']", "[[destination]] issues", ["webhook_secrets", "empty"]),
        (ISSUES + f"webhook_secrets = {['x' * 32] * 4}", "[[destination]] issues", ["webhook_secrets", "3"]),
        (ISSUES + 'redact = "none"', "[[destination]] issues", ["redact", "'none'"]),
        (ISSUES + "limits.at_once = 0", "[[destination]] issues", ["limits.at_once", ">= 1"]),
        (ISSUES + "limits.at_once = 65", "[[destination]] issues", ["limits.at_once", "<= 64"]),
        (ISSUES + "limits.writes_per_minute = -1", "[[destination]] issues", ["limits.writes", ">= 0"]),
        (ISSUES + "limits.writes_per_minute = 1.5", "[[destination]] issues", ["limits.writes", "int"]),
        (ISSUES + "limits.writes = 1", "[[destination]] issues", ["limits", "writes"]),
        (SHOP + "limits.writes_per_minute = 1", "[[source]] shop", ["limits", "writes_per_minute"]),
        (SHOP + "limits.new_tickets_per_minute = '9'", "[[source]] shop", ["limits.new_tickets", "int"]),
        (ISSUES + "webhook_secrets = 'x'", "[[destination]] issues", ["webhook_secrets"]),
        ("[[route]]\ndestination = 'nowhere'", "[[route]] number 1", ["destination", "nowhere"]),
        ("[[route]]\nmatch.source = 'nobody'", "[[route]] number 1", ["match.source", "nobody"]),
        (
            "[[route]]\nmatch.kind = 'incident'",
            "[[route]] number 1",
            ["match.kind", "incident", "alert", "support"],
        ),
        ("[[route]]\n[[route]]\ncontinue = 'yes'", "[[route]] number 2", ["continue"]),
        ("[[route]]\nmatch.title = '('", RULE, ["match.title", "missing )", "RE2"]),
        ("[[route]]\nmatch.title = 'a(?=b)'", RULE, ["match.title", "(?=", "look-around"]),
        (f"[[route]]\nmatch.title = '{'a' * 1001}'", RULE, ["match.title", "1000 characters"]),
        ("[[route]]\nmatch.environment = []", RULE, ["match.environment", "leave it out"]),
        ("[[route]]\nmatch.tags = { service = [] }", RULE, ["match.tags.service", "leave it out"]),
        ("[[route]]\nmatch.tags = { service = 5 }", RULE, ["match.tags"]),
        ("[[route]]\nmatch = { occurrences = 5 }", RULE, ["match.occurrences", 'within = "10m"']),
        ("[[route]]\nmatch = { within = '5m' }", RULE, ["match.within", "occurrences = 5"]),
        ("[[route]]\nmatch = { occurrences = 0, within = '5m' }", RULE, ["match.occurrences", "1 or more"]),
        ("[[route]]\nmatch = { occurrences = 5, within = '5 minutes' }", RULE, ["match.within", "10m"]),
        ("[[route]]\nmatch.unseen_for = 'long'", RULE, ["match.unseen_for", "10m"]),
        (
            "[[route]]\nmatch = { kind = 'support', occurrences = 2, within = '1h' }",
            RULE,
            ["match.occurrences", "leave it out"],
        ),
        ("[[route]]\nrecurrence = 'open'", RULE, ["recurrence", "'open'", "reopen, new, comment, ignore"]),
        ("[[route]]\nrecurrence = [{ then = 'open' }]", RULE, ["recurrence[0].then", "open"]),
        (
            "[[route]]\nrecurrence = [{ then = 'new' }, { then = 'new', reason = ['completed', 'wontfix'] }]",
            RULE,
            ["recurrence[1].reason", "'wontfix'", "completed, not_planned, duplicate"],
        ),
        ("[[route]]\nrecurrence = [{ then = 'new', reason = [] }]", RULE, ["recurrence[0].reason", "leave"]),
        ("[[route]]\nrecurrence = [{ then = 'new', closed_for = '7' }]", RULE, ["recurrence[0].closed_for"]),
        ("[[route]]\nrecurrence = [{ then = 'new', release = 'x' }]", RULE, ["recurrence[0].release"]),
        (QUIET.format("24:00", "07:00", "UTC", ""), RULE, ["quiet_hours.from", "24:00", "23:59"]),
        (QUIET.format("22:00", "7", "UTC", ""), RULE, ["quiet_hours.to", "'7'"]),
        (QUIET.format("22:00", "07:00", "Mars/Base", ""), RULE, ["quiet_hours.zone", "Europe/Berlin"]),
        (QUIET.format("22:00", "07:00", "../etc", ""), RULE, ["quiet_hours.zone"]),
        (QUIET.format("22:00", "07:00", "UTC", "'fri', 'Sun'"), RULE, ["quiet_hours.days", "'Sun'", "mon"]),
        (QUIET.format("22:00", "22:00", "UTC", ""), RULE, ["quiet_hours", "never end"]),
        ("[[route]]\ntemplates = { body = '{{ title' }", RULE, ["templates.body", "line 1"]),
        (
            "[[route]]\ntemplates = { mail_subject = 'a\\n{% if %}' }",
            RULE,
            ["templates.mail_subject", "line 1"],
        ),
        ("[[route]]\ntemplates = { colour = 'a' }", RULE, ["templates", "colour"]),
        ("[[route]]\nfingerprint = '{{ title'", RULE, ["fingerprint", "line 1"]),
        ("[[route]]\nfingerprint = '{{ titel }}'", RULE, ["fingerprint", "'titel'", "title"]),
    ],
)
def test_each_mistake_names_file_table_and_key(text, table, expected):
    message = problem(text)
    assert message.startswith(f"pointsman.toml: {table}")
    for word in expected:
        assert word in message


def test_a_rule_says_all_that_rules_may_say():
    text = (
        ISSUES
        + """
[[route]]
name = "nightly"
destination = "issues"
fingerprint = "{{ tags.service }}/{{ title }}"
recurrence = "new"
quiet_hours = { from = "22:00", to = "07:00", zone = "Europe/Berlin", days = ["fri", "sat"] }
requester = true
[route.match]
environment = ["production", "staging"]
tags = { service = ["pay", "ship"], team = "blue" }
title = "(?i)time ?out"
occurrences = 5
within = "10m"
unseen_for = "7d"
"""
    )
    desired = read(text)
    (rule,) = desired.routes
    assert desired.warnings == []
    assert rule.match == {
        "environment": ["production", "staging"],
        "tags": {"service": ["pay", "ship"], "team": "blue"},
        "title": "(?i)time ?out",
        "occurrences": 5,
        "within": "10m",
        "unseen_for": "7d",
    }
    assert rule.options == {
        "name": "nightly",
        "fingerprint": "{{ tags.service }}/{{ title }}",
        "recurrence": [{"then": "new"}],
        "quiet_hours": {"from": "22:00", "to": "07:00", "zone": "Europe/Berlin", "days": ["fri", "sat"]},
        "requester": True,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[[route]]\n[[route]]\nmatch.kind = 'alert'",
            ["number 2", "never reached", "number 1", "everything"],
        ),
        (
            "[[route]]\nmatch.kind = 'alert'\n[[route]]\nmatch.kind = 'alert'",
            ["number 2", "never reached", "number 1", "the same", "continue = true"],
        ),
        ("[[route]]\nmatch.level = 'eror'", ["number 1", "match.level", "'eror'", "'error'"]),
        ("[[route]]\nmatch.level = ['info', 'Error']", ["match.level", "'Error'", "'error'"]),
        (
            "[[route]]\nname = 'a'\nmatch.kind = 'alert'\n[[route]]\nname = 'a'",
            ["number 2", "name", "'a'", "number 1"],
        ),
        (
            "[[route]]\nmatch.kind = 'support'\nfingerprint = '{{ title }}'",
            ["number 1", "fingerprint", "for alerts"],
        ),
    ],
)
def test_what_is_odd_is_warned_about(text, expected):
    (warning,) = read(text).warnings
    for word in ("pointsman.toml: [[route]] ", *expected):
        assert word in warning


@pytest.mark.parametrize(
    "text",
    [
        "[[route]]\ncontinue = true\n[[route]]\nmatch.kind = 'alert'",
        "[[route]]\nmatch.kind = 'alert'\n[[route]]",
        "[[route]]\nmatch = { occurrences = 2, within = '1h' }\n[[route]]",
        "[[route]]\nmatch.level = ['page', 'P1', 'warning', '']",
        QUIET.format("22:00", "22:00", "UTC", "'sun'"),
    ],
)
def test_what_is_not_odd_is_not_warned_about(text):
    assert read(text).warnings == []


def test_a_file_that_is_no_toml_is_told_with_its_place():
    message = problem("[[source]\n")
    assert message.startswith("pointsman.toml: ")
    assert "line 1" in message


def test_many_mistakes_are_told_together():
    messages = problems(
        SHOP.replace("bugsink", "sentry").replace("SHOP_TOKEN", "NO_SUCH")
        + ISSUES.replace('"a/b"', "5")
        + "[[route]]\ndestination = ['nowhere', 'neither']\nmatch.source = 'nobody'\n[colour]\n"
    )
    for word in (
        "sentry",
        "NO_SUCH",
        "settings.repository",
        "'nowhere'",
        "'neither'",
        "'nobody'",
        "[colour]",
    ):
        assert len([message for message in messages if word in message]) == 1
    assert len(messages) == 7


def test_a_table_that_can_not_be_read_does_not_hide_the_next_one():
    assert len(problems(SHOP + "colour = 1\n" + SHOP.replace("shop", "other") + "colour = 1")) == 2


def test_without_keys_a_literal_secret_is_refused_and_a_reference_is_not():
    vault = Vault([], ENVIRON)
    assert read(ISSUES, vault=vault).destinations
    message = problem(ISSUES.replace('{ env = "FORGEJO_API_TOKEN" }', '"literal"'), vault=vault)
    assert "settings.token" in message
    assert "POINTSMAN_SECRET_KEYS" in message


@pytest.mark.parametrize(("characters", "warnings"), [(8, 1), (19, 1), (20, 0)])
def test_a_short_token_is_warned_about(characters, warnings):
    vault = Vault([KEY], {**ENVIRON, "SHOP_TOKEN": "x" * characters})
    short = [warning for warning in read(SHOP, vault=vault).warnings if "token: has fewer than 20" in warning]
    assert len(short) == warnings


def test_a_webhook_secret_of_16_bytes_is_taken():
    assert read(ISSUES + f"webhook_secrets = ['{'x' * 16}']").destinations


def test_no_mistake_and_no_warning_tells_a_secret():
    text = (
        SHOP.replace('{ env = "SHOP_TOKEN" }', '"hunter2"')
        + ISSUES.replace('{ env = "FORGEJO_API_TOKEN" }', '"hunter2"').replace('"a/b"', '"ab"')
        + 'webhook_secrets = ["hunter2"]\n'
    )
    for vault in (VAULT, Vault([], ENVIRON)):
        assert "hunter2" not in "".join(problems(text, vault=vault))


LINES = [
    *(
        "[[source]]",
        "[[destination]]",
        "[[route]]",
        "[source]",
        "[x]",
        'slug = "a"',
        "slug = 5",
        'kind = "bugsink"',
    ),
    *(
        'tracker = "forgejo"',
        'token = "12345678"',
        'token = { env = "HOOK" }',
        "tokens = [1]",
        "settings = 1",
    ),
    *(
        'settings.url = "x"',
        "settings.token = []",
        "webhook_secrets = [{}]",
        'destination = "a"',
        "destination = 1",
    ),
    *('match.source = "a"', "match = 1", "continue = true", "nonsense", "=", "a.b.c = 1", 'token = ""'),
]


@QUICK
@given(st.lists(st.sampled_from(LINES), max_size=10).map("\n".join) | st.text(max_size=40))
def test_any_file_is_read_or_its_mistakes_are_told(text):
    try:
        messages = []
        read(text)
    except ConfigError as error:
        messages = error.problems or ["nothing is said"]
    assert all(message.startswith("pointsman.toml: ") for message in messages)


# -- the plan ----------------------------------------------------------------------------------------------------------


class Row(msgspec.Struct):
    """Row as stored in the database."""

    slug: str
    retired: bool = False
    kind: str = ""
    tracker: str = ""
    settings: dict[str, Any] = {}
    tokens: list[dict[str, str]] = []
    webhook_secrets: list[dict[str, str]] = []
    limits: dict[str, int] = {}
    redact: str = "normal"


def rows(desired, *, retired=()):
    """Return the rows of a database after applying."""
    sources = [
        Row(
            row.slug,
            row.slug in retired,
            kind=row.kind,
            settings=row.settings,
            tokens=row.tokens,
            limits=row.limits,
        )
        for row in desired.sources
    ]
    destinations = [
        Row(
            row.slug,
            row.slug in retired,
            tracker=row.tracker,
            settings=row.settings,
            webhook_secrets=row.webhook_secrets,
            limits=row.limits,
            redact=row.redact,
        )
        for row in desired.destinations
    ]
    return sources, destinations, desired.routes


def planned(text, before="", **more):
    return diff.plan(read(text), *rows(read(before), **more))


def plan_lines(plan):
    return [str(change) for change in plan.changes]


def test_a_first_plan_adds_everything():
    plan = planned(EXAMPLE)
    assert plan_lines(plan) == [
        "+ source shop",
        "+ source helpdesk",
        "+ destination shop-issues",
        "~ routes (0 rules become 2)",
    ]
    assert [item.slug for item in plan.sources] == ["shop", "helpdesk"]
    assert [item.slug for item in plan.destinations] == ["shop-issues"]
    assert len(plan.routes) == 2


def test_applying_the_same_file_again_changes_nothing():
    plan = planned(EXAMPLE, EXAMPLE)
    assert (plan.changes, plan.sources, plan.destinations, plan.routes) == ([], [], [], None)
    assert (plan.retired_sources, plan.retired_destinations) == ([], [])


def test_a_literal_secret_that_did_not_change_is_no_change():
    """Each sealing looks different; the digest beside it tells that it is the same secret."""
    text = (
        ISSUES.replace('{ env = "FORGEJO_API_TOKEN" }', '"one"') + 'webhook_secrets = ["two-of-the-tests"]\n'
    )
    assert plan_lines(planned(text, text)) == []
    assert plan_lines(planned(text.replace('"one"', '"other"'), text)) == ["~ destination issues (settings)"]
    assert plan_lines(planned(text.replace('"two-', '"other-'), text)) == [
        "~ destination issues (webhook_secrets)"
    ]


def test_a_change_names_what_changed_and_leaves_the_rest_alone():
    plan = planned(SHOP.replace("SHOP_TOKEN", "HELP_TOKEN") + ISSUES.replace("a/b", "a/c"), SHOP + ISSUES)
    assert plan_lines(plan) == ["~ source shop (tokens)", "~ destination issues (settings)"]
    plan = planned(SHOP.replace("SHOP_TOKEN", "HELP_TOKEN") + ISSUES, SHOP + ISSUES)
    assert (len(plan.sources), len(plan.destinations), plan.routes) == (1, 0, None)


def test_a_change_of_limits_is_a_change():
    changed = ISSUES + "limits.at_once = 2\n"
    assert plan_lines(planned(changed, ISSUES)) == ["~ destination issues (limits)"]
    assert plan_lines(planned(ISSUES, changed)) == ["~ destination issues (limits)"]
    assert plan_lines(planned(changed, changed)) == []
    assert plan_lines(planned(SHOP + "limits.new_tickets_per_minute = 5", SHOP)) == ["~ source shop (limits)"]


def test_what_the_file_no_longer_names_is_retired_and_comes_back_when_it_does():
    plan = planned("", SHOP + ISSUES)
    assert plan_lines(plan) == ["- source shop (its tickets stay)", "- destination issues (its tickets stay)"]
    assert (plan.retired_sources, plan.retired_destinations) == (["shop"], ["issues"])
    assert plan_lines(planned("", SHOP, retired=["shop"])) == []
    assert plan_lines(planned(SHOP, SHOP, retired=["shop"])) == ["+ source shop"]


def test_what_is_ours_is_never_retired():
    """The place for mail is a row like a destination, which no file names."""
    plan = diff.plan(read(""), [], [Row("@mail")], [])
    assert (plan.changes, plan.retired_destinations) == ([], [])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[[route]]\ndestination = 'issues'", "[[route]]\ndestination = []"),
        ("[[route]]\ndestination = 'issues'", "[[route]]\ndestination = 'issues'\ncontinue = true"),
        ("[[route]]\nmatch.kind = 'alert'", "[[route]]\nmatch.kind = 'support'"),
        ("[[route]]\nmatch.kind = 'alert'\n[[route]]", "[[route]]\n[[route]]\nmatch.kind = 'alert'"),
    ],
)
def test_routes_change_as_a_whole_their_order_included(before, after):
    plan = planned(ISSUES + after, ISSUES + before)
    assert plan_lines(plan) == ["~ routes (rules differ)"]
    assert plan.routes == read(ISSUES + after).routes
    assert planned(ISSUES + before, ISSUES + before).routes is None


def test_a_plan_shows_no_secret():
    text = ISSUES.replace('{ env = "FORGEJO_API_TOKEN" }', '"hunter2"')
    plan = planned(text, ISSUES)
    assert plan_lines(plan) == ["~ destination issues (settings)"]
    assert "hunter2" not in repr(plan)
