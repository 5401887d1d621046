"""The tracker over a real folder: with people, other processes and crashes in between."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import stat
import subprocess
import sys

import pytest

from pointsman.plugin_api import (
    Conflict,
    Draft,
    IssueRef,
    Marker,
    Misconfigured,
    NotFound,
    Refused,
    Unavailable,
)
from pointsman_folder import disk
from pointsman_folder.tracker import FolderSettings

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def draft(number=1, **changes):
    received = {
        "title": f"Problem {number}",
        "body": "It broke.",
        "marker": Marker(f"pm1-{number}-aa"),
        **changes,
    }
    return Draft(**received)


def only_file(root):
    [path] = root.glob("[0-9]*.md")
    return path


def names(root):
    return sorted(path.name for path in root.iterdir())


def now():
    return dt.datetime.now(dt.UTC)


async def test_an_issue_is_a_numbered_file(tracker, root):
    ref = await tracker.create_issue(draft(labels=("a",)))
    path = only_file(root)
    assert path.name == "0001-problem-1.md"
    assert ref == IssueRef("1", "1", path.as_uri())
    assert (await tracker.create_issue(draft(2))).remote_id == "2"
    assert not list(root.glob(".pointsman-temp*"))


async def test_the_same_marker_twice_is_one_file(tracker, make_tracker, root):
    first = await tracker.create_issue(draft())
    assert await tracker.create_issue(draft(title="Another title")) == first
    assert await make_tracker(root).create_issue(draft()) == first
    only_file(root)
    assert await tracker.find_issue(Marker("pm1-1-aa"), LONG_AGO) == (first,)
    assert await tracker.find_issue(Marker("pm1-1"), LONG_AGO) == ()


async def test_a_number_is_never_given_twice(tracker, root):
    await tracker.create_issue(draft(1))
    await tracker.create_issue(draft(2))
    (root / "0002-problem-2.md").unlink()
    assert (await tracker.create_issue(draft(3))).remote_id == "3"
    (root / disk.LOCK).unlink()
    assert (await tracker.create_issue(draft(4))).remote_id == "4"
    (root / "0040-mine.md").write_text("---\nstatus: open\n---\n")
    assert (await tracker.create_issue(draft(5))).remote_id == "41"


async def test_comments_go_to_the_end_once_each(tracker, root):
    ref = await tracker.create_issue(draft())
    comment = await tracker.add_comment(ref, "It broke again.", Marker("pm1-c-1"))
    await tracker.add_comment(ref, "It broke again.", Marker("pm1-c-1"))
    await tracker.add_comment(ref, "And again.", Marker("pm1-c-2"))
    text = only_file(root).read_text()
    assert text.count("## Comment · ") == 2
    assert text.index("broke again") < text.index("And again")
    assert await tracker.find_comment(ref, Marker("pm1-c-1"), LONG_AGO) == (comment,)
    assert await tracker.find_comment(ref, Marker("pm1-c-3"), LONG_AGO) == ()


async def test_close_and_reopen(tracker, root):
    ref = await tracker.create_issue(draft())
    current = await tracker.set_state(ref, "closed", "duplicate")
    seen = await tracker.read_issue(ref)
    assert current == seen
    assert (seen.state, seen.close_reason, seen.markers) == ("closed", "duplicate", ("pm1-1-aa",))
    before = only_file(root).stat()
    await tracker.set_state(ref, "closed", "completed")
    assert only_file(root).stat().st_mtime_ns == before.st_mtime_ns
    await tracker.set_state(ref, "open", None)
    assert (await tracker.read_issue(ref)).state == "open"


async def test_a_persons_edit_of_the_status_line_is_seen(tracker, root):
    ref = await tracker.create_issue(draft())
    since = now()
    path = only_file(root)
    path.write_bytes(path.read_bytes().replace(b"status: open", b"Status :  'Done' ").replace(b"\n", b"\r\n"))
    [seen] = await tracker.list_changes(since)
    assert (seen.ref, seen.state, seen.close_reason) == (ref, "closed", "completed")
    assert abs((seen.version - now()).total_seconds()) < 60


async def test_a_file_moved_into_closed_is_closed_and_comes_back_when_reopened(tracker, root):
    ref = await tracker.create_issue(draft())
    path = only_file(root)
    os.utime(path, (1e9, 1e9))
    (root / "closed").mkdir()
    since = now()
    path.rename(root / "closed" / path.name)
    [seen] = await tracker.list_changes(since)
    assert seen.state == "closed"
    assert seen.ref.url == (root / "closed" / path.name).as_uri()
    await tracker.add_comment(ref, "Still?", Marker("pm1-c-1"))
    assert not path.exists()
    current = await tracker.set_state(ref, "open", None)
    assert current == await tracker.read_issue(ref)
    assert path.exists()
    assert not list((root / "closed").iterdir())
    assert (await tracker.read_issue(ref)).state == "open"


async def test_reopening_never_overwrites_another_file(tracker, root):
    ref = await tracker.create_issue(draft())
    path = only_file(root)
    (root / "closed").mkdir()
    path.rename(root / "closed" / path.name)
    path.mkdir()
    with pytest.raises(Conflict, match="keep one"):
        await tracker.set_state(ref, "open", None)
    assert (root / "closed" / path.name).exists()


async def test_title_and_body_can_be_replaced(tracker, root):
    ref = await tracker.create_issue(draft())
    await tracker.add_comment(ref, "Said.", Marker("pm1-c-1"))
    await tracker.update_issue(ref, draft(title="Other", body="Other text"))
    text = only_file(root).read_text()
    assert "title: Other\n" in text
    assert "It broke" not in text
    assert "Said." in text


async def test_an_edit_during_our_write_is_not_overwritten(tracker, root, monkeypatch):
    ref = await tracker.create_issue(draft())
    path = only_file(root)
    write_temp = disk.write_temp

    def person_saves_meanwhile(fd, data, like=None):
        path.write_text("---\nstatus: open\n---\nmine\n")
        return write_temp(fd, data, like)

    monkeypatch.setattr(disk, "write_temp", person_saves_meanwhile)
    with pytest.raises(Conflict):
        await tracker.add_comment(ref, "Ours", Marker("pm1-c-1"))
    assert path.read_text().endswith("mine\n")
    assert names(root) == [disk.LOCK, path.name]


async def test_a_crash_before_the_name_is_given_leaves_nothing_to_see(tracker, root, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(disk, "place", die)
        with pytest.raises(Killed):
            await tracker.create_issue(draft())
    assert await tracker.find_issue(Marker("pm1-1-aa"), LONG_AGO) == ()
    ref = await tracker.create_issue(draft())
    assert names(root) == [disk.LOCK, only_file(root).name]
    assert ref.remote_id == "2"  # the number of the lost one is not given again


async def test_file_systems_without_hard_links_work_too(tracker, root, monkeypatch):
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    await tracker.create_issue(draft())
    assert names(root) == [disk.LOCK, "0001-problem-1.md"]


async def test_a_file_made_by_a_person_under_our_name_is_not_overwritten(tracker, root, monkeypatch):
    place = disk.place

    def person_is_faster(fd, temp, name):
        (root / name).write_text("mine")
        place(fd, temp, name)

    monkeypatch.setattr(disk, "place", person_is_faster)
    with pytest.raises(Conflict):
        await tracker.create_issue(draft())
    assert only_file(root).read_text() == "mine"


async def test_symlinks_lead_nowhere(tracker, root, tmp_path):
    await tracker.create_issue(draft())
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "0009-secret.md"
    secret.write_text("---\nstatus: closed\nmarker: pm1-9-aa\n---\n")
    (root / "0008-link.md").symlink_to(secret)
    (root / "closed").symlink_to(outside)
    (root / "0007-dir.md").mkdir()
    os.mkfifo(root / "0006-pipe.md")
    assert [seen.ref.remote_id for seen in await tracker.list_changes(LONG_AGO)] == ["1"]
    for number in "6789":
        with pytest.raises(NotFound):
            await tracker.set_state(IssueRef(number, number), "open", None)
    assert "status: closed" in secret.read_text()
    [finding] = [matching for matching in await tracker.check() if matching.level == "warning"]
    assert "closed" in finding.message


async def test_a_symlink_in_the_lock_files_place_is_refused(tracker, root, tmp_path):
    root.mkdir()
    (root / disk.LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Misconfigured):
        await tracker.create_issue(draft())
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("remote_id", ["../x", "", "1/../2", "-1", "99999999999", "٣", "7"])
async def test_only_numbers_of_files_are_issues(tracker, remote_id):
    await tracker.create_issue(draft())
    with pytest.raises(NotFound):
        await tracker.read_issue(IssueRef(remote_id, "x"))


async def test_other_files_are_skipped(tracker, root):
    await tracker.create_issue(draft())
    (root / "0002-photo.md").write_bytes(b"\x89PNG\0\0")
    (root / "0003-note.md").write_text("# No front matter\n")
    (root / "README.md").write_text("---\nstatus: closed\n---\n")
    assert len(await tracker.list_changes(LONG_AGO)) == 1
    with pytest.raises(Refused, match="front matter"):
        await tracker.set_state(IssueRef("3", "3"), "closed", None)


async def test_rights_of_files_and_folders_stay(tracker, root):
    ref = await tracker.create_issue(draft())
    assert stat.S_IMODE(root.stat().st_mode) & 0o755 == stat.S_IMODE(root.stat().st_mode)
    root.chmod(0o770)
    path = only_file(root)
    path.chmod(0o664)
    await tracker.add_comment(ref, "x", Marker("pm1-c-1"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert stat.S_IMODE(root.stat().st_mode) == 0o770


async def test_a_missing_folder_is_made_by_the_first_issue_only(tracker, root):
    assert await tracker.list_changes(LONG_AGO) == ()
    assert await tracker.find_issue(Marker("pm1-1-aa"), LONG_AGO) == ()
    with pytest.raises(Unavailable, match="not there"):
        await tracker.read_issue(IssueRef("1", "1"))
    assert [finding.level for finding in await tracker.check()] == ["ok"]
    assert not root.exists()
    await tracker.create_issue(draft())
    assert [finding.level for finding in await tracker.check()] == ["ok"]


async def test_a_file_in_the_folders_place_is_the_operators_to_mend(make_tracker, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        tracker = make_tracker(path)
        with pytest.raises(Misconfigured):
            await tracker.create_issue(draft())
        with pytest.raises(Misconfigured):
            await tracker.list_changes(LONG_AGO)
        assert [finding.level for finding in await tracker.check()] == ["error"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_without_rights_is_the_operators_to_mend(tracker, root):
    ref = await tracker.create_issue(draft())
    root.chmod(0o555)
    try:
        with pytest.raises(Misconfigured):
            await tracker.add_comment(ref, "x", Marker("pm1-c-1"))
        assert [finding.level for finding in await tracker.check()] == ["error"]
    finally:
        root.chmod(0o755)


async def test_a_full_disk_is_no_unknown_outcome(tracker, root, monkeypatch):
    await tracker.create_issue(draft())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="no space"):
        await tracker.create_issue(draft(2))
    assert len(list(root.glob("[0-9]*.md"))) == 1


async def test_a_lock_that_is_never_given_back_is_said(tracker, root, monkeypatch):
    monkeypatch.setattr(disk, "LOCK_SECONDS", 0.0)
    await tracker.create_issue(draft())
    with disk.opened(root) as dirs, disk.locked(dirs), pytest.raises(Unavailable, match="another process"):
        await tracker.create_issue(draft(2))


async def test_many_at_once_get_numbers_of_their_own(tracker, make_tracker, root):
    remaining = [tracker, make_tracker(root), make_tracker(root)]
    refs = await asyncio.gather(*(remaining[n % 3].create_issue(draft(n)) for n in range(30)))
    assert sorted(int(ref.remote_id) for ref in refs) == list(range(1, 31))


@pytest.mark.slow
def test_processes_share_one_folder(root):
    script = """
import asyncio, sys
from pointsman.plugin_api import Draft, Marker
from pointsman_folder import FolderTracker
from pointsman_folder.tracker import FolderSettings
async def main():
    tracker = FolderTracker(FolderSettings(path=sys.argv[1]), None)
    for n in range(20):
        await tracker.create_issue(Draft(title=f"t{n}", body="b", marker=Marker(f"pm1-{n}-aa")))
asyncio.run(main())
"""
    running = [subprocess.Popen([sys.executable, "-c", script, str(root)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert sorted(path.name[:4] for path in root.glob("*.md")) == [f"{n:04d}" for n in range(1, 21)]


async def test_a_large_folder_is_not_read_again_at_each_poll(tracker, root):
    root.mkdir()
    for n in range(1, 501):
        path = root / f"{n:04d}-x.md"
        path.write_text(f"---\nstatus: open\nmarker: pm1-{n}-aa\n---\n")
    # Only files that have been quiet for a while are remembered; time is the folder's, so move it instead.
    later = now() + dt.timedelta(hours=1)
    assert await tracker.list_changes(later) == ()
    assert tracker.folder.reads == 0
    await tracker.find_issue(Marker("pm1-7-aa"), LONG_AGO)
    assert tracker.folder.reads == 500


async def test_quiet_files_are_remembered_and_changed_ones_read_again(tracker, root, monkeypatch):
    for n in range(1, 4):
        await tracker.create_issue(draft(n))
    monkeypatch.setattr("pointsman_folder.files._RACY_NS", -1)
    await tracker.list_changes(LONG_AGO)
    reads = tracker.folder.reads
    await tracker.list_changes(LONG_AGO)
    assert tracker.folder.reads == reads
    path = root / "0002-problem-2.md"
    path.write_text(path.read_text().replace("status: open", "status: closed"))
    seen = await tracker.list_changes(LONG_AGO)
    assert [item.state for item in seen] == ["open", "closed", "open"]
    assert tracker.folder.reads == reads + 1


def test_a_path_must_name_something():
    for path in ("", "  ", "a\0b"):
        with pytest.raises(ValueError, match="path"):
            FolderSettings(path=path)


def test_a_relative_path_is_resolved_at_once(make_tracker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker = make_tracker("issues")
    monkeypatch.chdir("/")
    assert tracker.folder.root == tmp_path / "issues"
    assert tracker.connection(tracker.settings) is None


def test_the_plugin_registers_itself():
    import pointsman_folder

    matching = []
    pointsman_folder.pointsman_register_trackers(matching.append)
    assert [kind.kind for kind in matching] == ["folder"]
