"""Labels: names become ids, and a label that can't be had never loses the issue."""

from __future__ import annotations

import asyncio

import pytest

from pointsman.plugin_api import AuthFailed, RateLimited, Unavailable
from pointsman.testing.fake import Fault
from pointsman_forgejo.labels import KEPT_SECONDS, REFUSED_SECONDS, Labels


@pytest.fixture
def clock():
    """A clock that a test moves."""

    class Clock:
        seconds = 1000.0

        def __call__(self) -> float:
            return self.seconds

    return Clock()


@pytest.fixture
def labels(tracker, clock):
    return Labels(tracker.client, "acme/shop", clock=clock)


def asked(forgejo) -> list[str]:
    """The paths asked for, and a clean list for what comes."""
    paths = [
        f"{method} {path.partition('?')[0].removeprefix('/api/v1')}" for method, path in forgejo.requests
    ]
    forgejo.requests.clear()
    return paths


async def test_labels_are_looked_up_in_repository_and_organization_and_made_where_missing(
    make_tracker, forgejo, helpers
):
    forgejo.labels = {1: "bug", **{number: f"other {number}" for number in range(10, 90)}}
    forgejo.org_labels = {2: "customer"}
    forgejo.page_max = 30
    tracker = make_tracker(labels=("Bug", "customer"))
    await tracker.create_issue(helpers.draft(labels=("new", "BUG", "x" * 60)))
    names = {**forgejo.labels, **forgejo.org_labels}
    assert [names[number] for number in forgejo.issues[1].labels] == ["bug", "customer", "new"]
    assert sum(effect.kind == "label" for effect in forgejo.effects) == 1
    asked = len(forgejo.requests)
    await tracker.create_issue(helpers.draft(labels=("new",)))
    assert len(forgejo.requests) == asked + 1
    assert len(forgejo.issues[2].labels) == 3


async def test_a_label_that_was_deleted_meanwhile_is_made_again_for_the_next_issue(
    make_tracker, forgejo, helpers
):
    tracker = make_tracker(labels=("bug",))
    await tracker.create_issue(helpers.draft())
    forgejo.issues.clear()
    forgejo.labels.clear()
    await tracker.create_issue(helpers.draft())
    await tracker.create_issue(helpers.draft())
    assert [len(issue.labels) for issue in forgejo.issues.values()] == [0, 1]


@pytest.mark.parametrize(
    "fault", [Fault("/labels", status=500, times=9), Fault("/labels", reset=True, times=9)]
)
async def test_an_issue_is_made_without_labels_that_can_not_be_had(make_tracker, forgejo, helpers, fault):
    forgejo.faults.append(fault)
    ref = await make_tracker(labels=("bug", "urgent")).create_issue(helpers.draft())
    assert forgejo.issues[1].labels == []
    assert [note.partition(":")[0] for note in ref.notes] == [
        "label 'bug' left out",
        "label 'urgent' left out",
    ]


async def test_without_the_right_to_write_the_issue_goes_without_labels(make_tracker, forgejo, helpers):
    forgejo.may_write = False
    await make_tracker(labels=("bug",), assignees=("pointsman-bot",)).create_issue(helpers.draft())
    assert (forgejo.issues[1].labels, forgejo.issues[1].assignees) == ([], [])


async def test_what_stops_the_issue_as_well_is_raised_while_looking_for_labels(
    make_tracker, forgejo, helpers
):
    forgejo.faults.append(Fault("/labels", status=429, headers={"Retry-After": "5"}))
    with pytest.raises(RateLimited):
        await make_tracker(labels=("bug",)).create_issue(helpers.draft())
    assert forgejo.issues_created() == 0


async def test_without_names_nothing_is_asked(labels, forgejo):
    assert (await labels.resolve(())).ids == {}
    assert forgejo.requests == []


async def test_a_label_of_exactly_that_name_comes_before_one_in_other_case(labels, forgejo):
    forgejo.labels = {1: "Bug", 2: "bug"}
    assert (await labels.resolve(("bug", "Bug", "BUG"))).ids == {"bug": 2, "Bug": 1, "BUG": 1}


async def test_the_repository_comes_before_its_organization(labels, forgejo):
    forgejo.labels, forgejo.org_labels = {1: "bug"}, {2: "bug", 3: "customer"}
    assert (await labels.resolve(("bug",))).ids == {"bug": 1}
    assert asked(forgejo) == ["GET /repos/acme/shop/labels"]
    assert (await labels.resolve(("bug", "customer"))).ids == {"bug": 1, "customer": 3}
    assert asked(forgejo) == ["GET /repos/acme/shop/labels", "GET /orgs/acme/labels"]


async def test_ids_are_remembered_for_some_minutes(labels, forgejo, clock):
    forgejo.labels = {1: "bug"}
    await labels.resolve(("bug",))
    forgejo.labels = {2: "bug"}
    clock.seconds += KEPT_SECONDS - 1
    assert (await labels.resolve(("bug",))).ids == {"bug": 1}
    clock.seconds += 1
    assert (await labels.resolve(("bug",))).ids == {"bug": 2}


async def test_a_name_that_is_missing_is_looked_up_at_once(labels, forgejo):
    forgejo.labels = {1: "bug"}
    await labels.resolve(("bug",))
    forgejo.labels[2] = "urgent"
    assert (await labels.resolve(("bug", "urgent"))).ids == {"bug": 1, "urgent": 2}


async def test_without_leave_no_label_is_made_and_the_issue_says_so(make_tracker, forgejo, helpers):
    forgejo.labels = {1: "bug"}
    tracker = make_tracker(labels=("bug", "urgent"), create_labels=False)
    ref = await tracker.create_issue(helpers.draft())
    assert forgejo.labels == {1: "bug"}
    assert forgejo.issues[1].labels == [1]
    assert ref.notes == ("label 'urgent' left out: it does not exist, and `create_labels` is off",)


async def test_a_label_that_may_not_be_made_is_told_and_not_asked_for_again_at_once(labels, forgejo, clock):
    forgejo.may_write = False
    had = await labels.resolve(("bug",))
    assert had.ids == {}
    [note] = had.notes
    assert note.startswith("label 'bug' left out: could not make it: user should have a permission")
    assert "POST /repos/acme/shop/labels" in asked(forgejo)
    clock.seconds += REFUSED_SECONDS - 1
    assert (await labels.resolve(("bug",))).notes == had.notes
    assert forgejo.requests == []
    clock.seconds += 1
    forgejo.may_write = True
    assert (await labels.resolve(("bug",))).notes == ()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("GET /api/v1/repos/acme/shop/labels", status=500, body=b'{"message":""}'), "server's log"),
        (Fault("GET /api/v1/repos/acme/shop/labels", body=b"<html>", status=200), "not JSON"),
        (Fault("GET /api/v1/repos/acme/shop/labels", body=b"{}", status=200), "no list"),
        (Fault("GET /api/v1/orgs/acme/labels", status=502), "502"),
    ],
)
async def test_what_may_be_in_a_list_that_was_not_read_is_not_made_twice(labels, forgejo, fault, message):
    forgejo.faults.append(fault)
    had = await labels.resolve(("bug",))
    assert had.ids == {}
    [note] = had.notes
    assert message in note
    assert forgejo.labels == {}


@pytest.mark.parametrize("scopes", [{"user", "repository", "issue"}])
async def test_a_token_that_may_not_read_organizations_makes_the_label_itself(labels, forgejo, scopes):
    forgejo.scopes, forgejo.org_labels = scopes, {}
    assert list((await labels.resolve(("bug",))).ids) == ["bug"]


async def test_a_token_without_the_scope_for_labels_says_which(labels, forgejo):
    forgejo.scopes.discard("issue")
    [note] = (await labels.resolve(("bug",))).notes
    assert "give the token the scope read:issue" in note


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Fault("POST", status=429), RateLimited), (Fault("POST", status=401), AuthFailed)],
)
async def test_what_stops_the_issue_as_well_is_raised_while_making_a_label(labels, forgejo, fault, kind):
    forgejo.faults.append(fault)
    with pytest.raises(kind):
        await labels.resolve(("bug",))


async def test_a_server_that_is_down_is_no_missing_label(labels, forgejo):
    async with forgejo.down():
        with pytest.raises(Unavailable):
            await labels.resolve(("bug",))


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"id":"x"}'])
async def test_a_label_made_without_an_id_in_the_answer_is_found_next_time(labels, forgejo, body):
    forgejo.faults.append(Fault("POST", status=201, body=body, applied=True))
    [note] = (await labels.resolve(("bug",))).notes
    assert "did not tell its id" in note
    assert list((await labels.resolve(("bug",))).ids) == ["bug"]
    assert len(forgejo.labels) == 1


async def test_two_issues_at_once_make_a_label_once(labels, forgejo):
    both = await asyncio.gather(labels.resolve(("bug",)), labels.resolve(("bug", "urgent")))
    assert both[0].ids["bug"] == both[1].ids["bug"]
    assert sorted(forgejo.labels.values()) == ["bug", "urgent"]


async def test_labels_that_the_server_dropped_are_told_and_looked_up_anew(make_tracker, forgejo, helpers):
    tracker = make_tracker(labels=("bug",))
    await tracker.create_issue(helpers.draft())
    forgejo.may_write = False
    ref = await tracker.create_issue(helpers.draft())
    assert forgejo.issues[2].labels == []
    assert ref.notes == (
        "the server dropped the labels bug: the account may not write to acme/shop, or they were deleted meanwhile",
    )
    asked(forgejo)
    await tracker.create_issue(helpers.draft())
    assert "GET /repos/acme/shop/labels" in asked(forgejo)
