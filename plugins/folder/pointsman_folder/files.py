"""The folder as a collection of issues: numbers, file names, and a cache of what was read. Blocking."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from pointsman.plugin_api import CloseReason, Misconfigured, NotFound, Refused, State
from pointsman_folder import disk, wire
from pointsman_folder.disk import CLOSED, Dirs, Stamp

_RACY_NS = 2_000_000_000


class Entry(NamedTuple):
    """A file with the name of an issue. ``stamp`` is its state when it was listed."""

    number: int
    name: str
    in_closed: bool
    stamp: Stamp


class Issue(NamedTuple):
    """A file that is an issue, with its front matter."""

    entry: Entry
    state: State
    reason: CloseReason | None
    marker: str

    @classmethod
    def of(cls, entry: Entry, head: wire.Head) -> Issue:
        """Return the issue of a file with this front matter."""
        state, reason = wire.read_state(head, in_closed=entry.in_closed)
        return cls(entry, state, reason, head.value("marker"))


class Folder:
    """One folder of issues. Methods block and may be called from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reads = 0
        """How many files were opened for listing: those that were not cached."""
        self._known: dict[tuple[bool, str], tuple[Stamp, Issue | None]] = {}
        self._known_lock = threading.Lock()

    # -- reading -----------------------------------------------------------------------------------------------

    def issues(self, changed_since_ns: int | None = None) -> list[Issue]:
        """Return every issue, or those changed since then, by number. A missing folder has none.

        Only names and times are examined; a file is opened if it is needed and its present state is not cached.
        """
        try:
            with disk.opened(self.root) as dirs:
                entries = self._entries(dirs)
                now_ns = time.time_ns()
                wanted = (
                    entry
                    for entry in entries.values()
                    if changed_since_ns is None or entry.stamp.changed_ns(now_ns) >= changed_since_ns
                )
                return [issue for entry in wanted if (issue := self._issue(dirs, entry))]
        except disk.Missing:
            return []

    def issue(self, number: int) -> Issue:
        """Return one issue. Raises Refused if the file exists and is no issue any more."""
        with disk.opened(self.root) as dirs:
            entry = self._entry(dirs, number)
            return Issue.of(entry, _head_of(entry, disk.read(_fd(dirs, entry), entry.name, wire.HEAD_LIMIT)))

    def read(self, number: int) -> tuple[Issue, wire.Head, bytes]:
        """Return one issue, its front matter and its whole file."""
        with disk.opened(self.root) as dirs:
            entry = self._entry(dirs, number)
            data = disk.read(_fd(dirs, entry), entry.name)
            head = _head_of(entry, data)
            return Issue.of(entry, head), head, data

    # -- writing -----------------------------------------------------------------------------------------------

    def create(self, marker: str, title: str, make: Callable[[], bytes]) -> Issue:
        """Create an issue with the next free number; return the existing one if an issue has the marker already."""
        try:
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        except FileExistsError as error:
            raise Misconfigured(f"{self.root} is not a folder") from error
        except OSError as error:
            raise disk.as_plugin_error(error, self.root) from error
        with disk.opened(self.root) as dirs, disk.locked(dirs) as lock:
            entries = self._entries(dirs)
            for entry in entries.values():
                issue = self._issue(dirs, entry)
                if issue and issue.marker == marker:
                    return issue
            number = max([disk.last_number(lock), *entries]) + 1
            name = wire.file_name(number, title)
            data = make()
            temp = disk.write_temp(dirs.root, data)
            entry = Entry(
                number, name, False, Stamp.of(os.stat(temp, dir_fd=dirs.root, follow_symlinks=False))
            )
            created = Issue.of(entry, _head_of(entry, data))
            # The number is written first: a crash may waste one, but none is ever given twice.
            disk.keep_number(lock, number)
            disk.place(dirs.root, temp, name)
            return created

    def change(
        self, number: int, edit: Callable[[bytes, wire.Head, Entry], bytes], *, move_back: bool = False
    ) -> Issue:
        """Replace an issue's file by the result of ``edit``, unless somebody changes it meanwhile (Conflict).

        If the bytes are the same, nothing is written. With ``move_back`` the file leaves ``closed/`` afterwards.
        """
        with disk.opened(self.root) as dirs, disk.locked(dirs):
            entry = self._entry(dirs, number)
            fd = _fd(dirs, entry)
            before = disk.read(fd, entry.name)
            after = edit(before, _head_of(entry, before), entry)
            if after != before:
                disk.replace(fd, entry.name, before, after)
            if entry.in_closed and move_back:
                disk.move_back(dirs, entry.name)
                entry = entry._replace(in_closed=False)
            with contextlib.suppress(OSError):
                now = os.stat(entry.name, dir_fd=_fd(dirs, entry), follow_symlinks=False)
                entry = entry._replace(stamp=Stamp.of(now))
            return Issue.of(entry, _head_of(entry, after))

    # -- inside ------------------------------------------------------------------------------------------------

    def _entries(self, dirs: Dirs) -> dict[int, Entry]:
        """Return all files with an issue's name, by number.

        Of several files with one number the first counts: those outside ``closed/`` come before those in it, the
        shorter name before the longer (a copy).
        """
        listed: list[Entry] = []
        for fd in dirs.all:
            with os.scandir(fd) as items:
                for item in items:
                    number = wire.number_of(item.name)
                    if number is None or not item.is_file(follow_symlinks=False):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        stamp = Stamp.of(item.stat(follow_symlinks=False))
                        listed.append(Entry(number, item.name, fd == dirs.closed, stamp))
        listed.sort(key=lambda entry: (entry.number, entry.in_closed, len(entry.name), entry.name))
        entries: dict[int, Entry] = {}
        for entry in listed:
            entries.setdefault(entry.number, entry)
        self._forget(entries.values())
        return entries

    def _entry(self, dirs: Dirs, number: int) -> Entry:
        entry = self._entries(dirs).get(number)
        if entry is None:
            raise NotFound(f"there is no issue {number} in {self.root}")
        return entry

    def _issue(self, dirs: Dirs, entry: Entry) -> Issue | None:
        """Return the issue in a file, from the cache if the file is unchanged; None if it is no issue."""
        key = (entry.in_closed, entry.name)
        with self._known_lock:
            stamp, issue = self._known.get(key, (None, None))
        if stamp == entry.stamp:
            return issue
        self.reads += 1
        try:
            head = wire.read_head(disk.read(_fd(dirs, entry), entry.name, wire.HEAD_LIMIT))
        except (OSError, Refused):
            return None
        issue = Issue.of(entry, head) if head else None
        # A file changed just now may change again within the same tick of its clock: not remembered yet.
        if time.time_ns() - max(entry.stamp.ctime_ns, entry.stamp.mtime_ns) > _RACY_NS:
            with self._known_lock:
                self._known[key] = (entry.stamp, issue)
        return issue

    def _forget(self, entries: Collection[Entry]) -> None:
        """Remove deleted files from the cache, now and then."""
        with self._known_lock:
            if len(self._known) > 2 * len(entries) + 100:
                stay = {(entry.in_closed, entry.name) for entry in entries}
                self._known = {key: value for key, value in self._known.items() if key in stay}


def _fd(dirs: Dirs, entry: Entry) -> int:
    fd = dirs.closed if entry.in_closed else dirs.root
    if fd is None:
        raise NotFound(f"{CLOSED}/ is gone")
    return fd


def _head_of(entry: Entry, data: bytes) -> wire.Head:
    head = wire.read_head(data)
    if head is None:
        raise Refused(f"{entry.name} has no front matter between --- lines any more")
    return head
