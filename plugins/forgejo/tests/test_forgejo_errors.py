"""What an answer that is no success stands for."""

from __future__ import annotations

import pytest

from pointsman.plugin_api import (
    AuthFailed,
    Blocked,
    Conflict,
    IssueRef,
    Misconfigured,
    NotFound,
    RateLimited,
    Refused,
    Response,
    Secret,
    Unavailable,
    UnknownOutcome,
)
from pointsman.testing.fake import Fault
from pointsman_forgejo import errors

HTML = b"<html><title>Too Many Requests</title></html>"


def answer(status, body=b"{}", headers=None, method="POST", path="/x"):
    return Response(method=method, path=path, status=status, headers=headers or {}, body=body)


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (401, b'{"message":"token is required"}', AuthFailed, "token is required"),
        (401, b'{"message":"invalid username, password or token"}', AuthFailed, "invalid username"),
        (403, b"", Misconfigured, "the server does not say why"),
        (403, b"{}", Misconfigured, "the server does not say why"),
        (
            403,
            b'{"message":"token does not have at least one of required scope(s): [write:issue]"}',
            Misconfigured,
            "give the token the scope write:issue",
        ),
        (403, b'{"message":"You cannot comment on a locked issue."}', Refused, "the issue is locked"),
        (403, b'{"message":"user is blocked by repository owner"}', Blocked, "user is blocked"),
        (
            404,
            b'{"message":"The target couldn\'t be found.","errors":[]}',
            NotFound,
            "The target couldn't be found.",
        ),
        (404, b'{"message":"not found","errors":["issue does not exist"]}', NotFound, "issue does not exist"),
        (404, b"404 page not found", NotFound, "answered 404"),
        (410, b"{}", NotFound, "answered 410"),
        (400, b'{"message":"the issue is already changed"}', Conflict, "already changed"),
        (400, b'{"message":"invalid"}', Refused, "invalid"),
        (409, b"{}", Conflict, "answered 409"),
        (
            412,
            b'{"message":"cannot close this issue because it still has open dependencies"}',
            Refused,
            "dependencies",
        ),
        (413, b"<html>", Refused, "answered 413"),
        (422, b'{"message":"[Title]: Required"}', Refused, "[Title]: Required"),
        (423, b'{"message":"acme/shop is archived"}', Misconfigured, "the repository is archived"),
        (307, b"", Misconfigured, "another name"),
        (429, HTML, RateLimited, "answered 429"),
        (500, b'{"message":""}', UnknownOutcome, "the server's log says why"),
        (500, b'{"message":"database is locked"}', UnknownOutcome, "database is locked"),
        (502, b"<html>", UnknownOutcome, "answered 502"),
        (503, HTML, UnknownOutcome, "answered 503"),
        (504, b"", UnknownOutcome, "answered 504"),
    ],
)
def test_an_answer_about_an_issue_stands_for_an_error_with_the_servers_words(status, body, kind, message):
    error = errors.problem(answer(status, body), "edit the issue", issue=True)
    assert type(error) is kind
    assert message in error.message
    assert error.message.startswith("could not edit the issue")
    assert error.status == status
    assert error.excerpt == body.decode()


def test_a_404_that_is_not_about_an_issue_is_about_the_repository():
    error = errors.problem(answer(404, b'{"errors":[]}', path="/repos/acme/shop/issues"), "list issues")
    assert type(error) is Misconfigured
    assert "switched off" in error.message
    error = errors.problem(answer(404, path="/version"), "read the version")
    assert type(error) is Misconfigured
    assert "check `url`" in error.message


def test_a_create_answered_with_412_may_have_happened():
    assert isinstance(errors.problem(answer(412), "create", sent={"title": "x"}), UnknownOutcome)


def test_a_create_answered_with_400_may_have_happened_only_where_assignees_are_added_after_the_insert():
    assert isinstance(errors.problem(answer(400), "create", sent={"assignees": ["dev"]}), UnknownOutcome)
    assert isinstance(errors.problem(answer(400), "create", sent={"title": "x"}), Refused)
    assert isinstance(errors.problem(answer(400), "create", sent={"assignees": []}), Refused)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("[Title]: Required", "title"),
        ("[Body]: Required", "body"),
        (
            "[]: json: cannot unmarshal string into Go struct field CreateIssueOption.labels of type int64",
            "labels",
        ),
        ("Assignee does not exist: [name: nobody]", "assignee"),
        ("Invalid hook type: x", "message"),
    ],
)
def test_a_refusal_names_the_field(message, field):
    error = errors.problem(answer(422, b'{"message":"%s"}' % message.encode()), "create")
    if field in {"labels", "assignee"}:
        # the settings decide it: the deliveries wait
        assert isinstance(error, Misconfigured) and message in error.message
    else:
        assert isinstance(error, Refused)
        assert error.fields == {field: message}


@pytest.mark.parametrize(
    ("message", "scopes"),
    [
        ("token does not have at least one of required scope(s): [write:issue]", ("write:issue",)),
        (
            "token does not have at least one of required scope(s): [read:user read:issue]",
            ("read:user", "read:issue"),
        ),
        (
            "token does not have at least one of required scope(s), required=[write:repository], token scope=read:repository",
            ("write:repository",),
        ),
        ("token scope is limited to public repos", ()),
        ("", ()),
    ],
)
def test_the_scopes_that_a_token_lacks_are_read_from_the_message(message, scopes):
    assert errors.scopes_lacking(message) == scopes


@pytest.mark.parametrize(("headers", "seconds"), [({"retry-after": "7"}, 7), ({}, None)])
@pytest.mark.parametrize(("status", "method"), [(429, "POST"), (429, "GET"), (503, "GET")])
def test_a_limit_of_a_proxy_says_how_long(status, method, headers, seconds):
    error = errors.problem(answer(status, HTML, headers, method), "do it")
    if status == 503 and not headers:
        assert isinstance(error, UnknownOutcome)
        return
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


def test_a_proxy_that_can_not_serve_a_write_proves_nothing():
    assert isinstance(errors.problem(answer(503, HTML, {"retry-after": "7"}), "create"), UnknownOutcome)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"message":5}', b"[" * 99999, b'{"errors":{}}', b"\xff"]
)
def test_a_body_without_words_has_none(body):
    assert errors.message_of(answer(500, body)) == ""


# -- at the server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("POST", status=500, applied=True), UnknownOutcome),
        (Fault("POST", status=412, applied=True), UnknownOutcome),
        (Fault("POST", reset=True, applied=True), UnknownOutcome),
        (Fault("POST", status=200, body=b"<html>log in</html>"), UnknownOutcome),
        (Fault("POST", status=201, body=b"{}", applied=True), UnknownOutcome),
        (Fault("POST", status=429), RateLimited),
        (Fault("POST", status=401), AuthFailed),
        (Fault("POST", status=422), Refused),
    ],
)
async def test_an_error_is_named_for_what_it_proves(tracker, forgejo, helpers, fault, kind):
    forgejo.faults.append(fault)
    with pytest.raises(kind) as caught:
        await tracker.create_issue(helpers.draft())
    assert type(caught.value) is kind
    assert sum(method == "POST" for method, _ in forgejo.requests) == 1


async def test_a_server_that_is_down_was_not_told_anything(tracker, forgejo, helpers):
    async with forgejo.down():
        with pytest.raises(Unavailable):
            await tracker.create_issue(helpers.draft())


async def test_a_wrong_token(make_tracker, helpers):
    with pytest.raises(AuthFailed):
        await make_tracker(token=Secret("wrong")).create_issue(helpers.draft())


async def test_an_archived_repository(tracker, forgejo, helpers):
    forgejo.archived = True
    with pytest.raises(Misconfigured, match="archived"):
        await tracker.create_issue(helpers.draft())


async def test_issues_switched_off_and_a_wrong_name_look_alike(tracker, make_tracker, forgejo, helpers):
    with pytest.raises(Misconfigured, match="not there, or hidden"):
        await make_tracker(repository="acme/other").create_issue(helpers.draft())
    forgejo.has_issues = False
    with pytest.raises(Misconfigured, match="switched off"):
        await tracker.create_issue(helpers.draft())


async def every_call(tracker, issue, helpers):
    """The calls about one issue, one after the other."""
    for call in (
        tracker.add_comment(issue, "x", helpers.marker()),
        tracker.set_state(issue, "closed", None),
        tracker.update_issue(issue, helpers.draft()),
        tracker.read_issue(issue),
        tracker.find_comment(issue, helpers.marker(), helpers.long_ago),
    ):
        yield call


async def test_an_issue_that_is_gone_is_told_from_one_that_can_not_be_seen_now(tracker, forgejo, helpers):
    """404 means a deleted issue, but also issues switched off for a while, and then its ticket must not lose it."""
    issue = await tracker.create_issue(helpers.draft())
    forgejo.has_issues = False
    async for call in every_call(tracker, issue, helpers):
        with pytest.raises(Misconfigured, match="switched off"):
            await call
    forgejo.has_issues = True
    forgejo.delete_issue(1)
    async for call in every_call(tracker, issue, helpers):
        with pytest.raises(NotFound):
            await call


async def test_a_repository_that_is_hidden_now_hides_its_issues(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    forgejo.repository = "acme/hidden"
    async for call in every_call(tracker, issue, helpers):
        with pytest.raises(Misconfigured, match="hidden from the account"):
            await call


@pytest.mark.parametrize(
    "fault", [Fault("shop", status=500), Fault("shop", status=429), Fault("shop", reset=True, times=9)]
)
async def test_a_404_that_can_not_be_looked_into_is_tried_again(tracker, forgejo, helpers, fault):
    issue = await tracker.create_issue(helpers.draft())
    forgejo.faults += [Fault("comments", status=404), fault]
    with pytest.raises(Unavailable):
        await tracker.add_comment(issue, "x", helpers.marker())


async def test_a_token_that_may_not_read_the_repository_still_tells_what_is_gone(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    forgejo.scopes.discard("repository")
    forgejo.delete_issue(1)
    with pytest.raises(NotFound):
        await tracker.read_issue(issue)


async def test_without_the_right_to_write_the_empty_refusal_gets_words(tracker, forgejo, helpers):
    number = await forgejo.open_issue("theirs")
    forgejo.may_write = False
    with pytest.raises(Misconfigured, match="does not say why"):
        await tracker.set_state(helpers.number(number), "closed", None)


async def test_an_archived_repository_takes_no_comment(tracker, forgejo, helpers):
    issue = await tracker.create_issue(helpers.draft())
    forgejo.archived = True
    with pytest.raises(Misconfigured, match="archived"):
        await tracker.add_comment(issue, "x", helpers.marker())


async def test_a_token_that_may_only_read_names_the_scope(tracker, forgejo, helpers):
    for brand in ("forgejo", "gitea"):
        forgejo.brand, forgejo.read_only = brand, {"issue"}
        with pytest.raises(Misconfigured, match="give the token the scope write:issue"):
            await tracker.create_issue(helpers.draft())


async def test_a_limit_of_codebergs_proxy_is_obeyed(tracker, forgejo, helpers):
    forgejo.faults.append(Fault("POST", status=429, body=HTML, headers={"Retry-After": "30"}))
    with pytest.raises(RateLimited) as caught:
        await tracker.create_issue(helpers.draft())
    assert caught.value.retry_after == 30
    forgejo.faults.append(Fault("GET", status=503, body=HTML, headers={"Retry-After": "9"}))
    with pytest.raises(RateLimited) as caught:
        await tracker.list_changes(helpers.long_ago)
    assert caught.value.retry_after == 9


async def test_a_renamed_repository_names_the_cure(tracker, forgejo, helpers):
    ref = await tracker.create_issue(helpers.draft())
    forgejo.rename_repository("acme/store")
    for call in (tracker.create_issue(helpers.draft()), tracker.read_issue(ref)):
        with pytest.raises(Misconfigured, match="acme/store"):
            await call


async def test_what_is_no_number_never_reaches_the_server(tracker, forgejo):
    with pytest.raises(NotFound):
        await tracker.read_issue(IssueRef("1/../2", "x"))
    assert forgejo.requests == []
