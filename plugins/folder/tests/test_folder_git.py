"""A folder that is kept in git: what git keeps there is no issue, and what it replaces is read again."""

from __future__ import annotations

import datetime as dt

import pytest

from pointsman.plugin_api import Draft, Marker, NotFound

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def draft(number=1):
    return Draft(title=f"Problem {number}", body="It broke.", marker=Marker(f"pm1-{number}-aa"))


def only_file(root):
    [path] = (path for path in root.glob("[0-9]*.md") if path.is_file())
    return path


def in_git(root, *, worktree=False):
    """What git keeps in a working copy, with names that look like an issue's, as branches may have."""
    root.mkdir(parents=True, exist_ok=True)
    if worktree:
        (root / ".git").write_text("gitdir: /elsewhere/.git/worktrees/issues\n")
        return
    heads = root / ".git" / "refs" / "heads"
    heads.mkdir(parents=True)
    (heads / "0007-fix.md").write_text("---\nstatus: open\nmarker: pm1-1-aa\n---\n")
    (root / ".git" / "0008-index.md").write_text("---\nstatus: open\nmarker: pm1-1-aa\n---\n")
    (root / "0009-notes.md").mkdir()
    (root / "0009-notes.md" / "0010-inner.md").write_text("---\nstatus: open\nmarker: pm1-1-aa\n---\n")
    (root / ".gitignore").write_text(".pointsman*\n")


@pytest.mark.parametrize("worktree", [False, True])
async def test_what_git_keeps_is_not_looked_at(tracker, root, worktree):
    in_git(root, worktree=worktree)
    ref = await tracker.create_issue(draft())
    assert ref.remote_id == "1"
    assert await tracker.find_issue(Marker("pm1-1-aa"), LONG_AGO) == (ref,)
    assert [seen.ref for seen in await tracker.list_changes(LONG_AGO)] == [ref]
    closed = root / "closed"
    closed.mkdir()
    (closed / ".git").mkdir()
    (closed / ".git" / "0011-x.md").write_text("---\nstatus: open\nmarker: pm1-1-aa\n---\n")
    await tracker.set_state(ref, "closed", "duplicate")
    assert [(seen.ref, seen.state) for seen in await tracker.list_changes(LONG_AGO)] == [(ref, "closed")]
    [finding] = await tracker.check()
    assert finding.message.endswith("has 1 issues")


async def test_a_checkout_replaces_files_and_they_are_read_again(tracker, root):
    """Git writes a new file under the old name, and may do so twice within one tick of the clock."""
    ref = await tracker.create_issue(draft())
    path = only_file(root)
    before = path.read_bytes()
    for status, state in (("closed", "closed"), ("open", "open"), ("wontfix", "closed")):
        path.unlink()
        path.write_bytes(before.replace(b"status: open", b"status: " + status.encode()))
        assert (await tracker.read_issue(ref)).state == state
        assert [seen.state for seen in await tracker.list_changes(LONG_AGO)] == [state]
    path.unlink()  # another branch does not have it
    assert await tracker.find_issue(Marker("pm1-1-aa"), LONG_AGO) == ()
    with pytest.raises(NotFound):
        await tracker.read_issue(ref)
    path.write_bytes(before)
    assert await tracker.find_issue(Marker("pm1-1-aa"), LONG_AGO) == (ref,)


async def test_a_number_is_not_given_again_on_a_branch_without_its_file(tracker, root):
    await tracker.create_issue(draft())
    only_file(root).unlink()
    assert (await tracker.create_issue(draft(2))).remote_id == "2"
