"""Operations on single files and directories that survive crashes, other writers and symlinks. Blocking.

Every path is relative to an open directory and never followed through a symlink, so that a file name can't lead out
of the folder. Writers hold one lock; readers need none, because a file is always replaced as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pointsman.plugin_api import Conflict, Misconfigured, PluginError, Refused, Unavailable, UnknownOutcome

CLOSED = "closed"
LOCK = ".pointsman.lock"
MAX_BYTES = 8 * 2**20
"""A larger file is not read, and none is written."""
LOCK_SECONDS = 10.0
_TEMP = ".pointsman-temp-"
_HERE = os.O_CLOEXEC | os.O_NOFOLLOW
_OPERATOR = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EISDIR,
}


class Missing(Unavailable):
    """The folder itself does not exist."""


class Stamp(NamedTuple):
    """Metadata by which an unchanged file is recognized."""

    inode: int
    mtime_ns: int
    ctime_ns: int
    size: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """Return the stamp of a stat result."""
        return cls(stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)

    def changed_ns(self, now_ns: int) -> int:
        """Return when the file was last changed or moved.

        A move into another folder does not change mtime, so that ctime counts too; an mtime in the future (of a
        restored or touched file) does not count.
        """
        return self.ctime_ns if self.mtime_ns > now_ns else max(self.ctime_ns, self.mtime_ns)


class Dirs(NamedTuple):
    """The folder and its ``closed/`` as open directories."""

    root: int
    closed: int | None

    @property
    def all(self) -> tuple[int, ...]:
        """Return the directories that exist."""
        return (self.root,) if self.closed is None else (self.root, self.closed)


def as_plugin_error(error: OSError, root: Path) -> PluginError:
    """Return the contract's error for an error of the file system. Nothing was done when it occurs."""
    why = (error.strerror or str(error)).lower()
    if error.errno in _OPERATOR:
        return Misconfigured(f"the folder {root} can't be used: {why}")
    if error.errno == errno.ENOENT:
        return Conflict(f"a file in {root} went away while it was worked on")
    return Unavailable(f"the folder {root} can't be used now: {why}")


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Dirs]:
    """Open the folder; errors of the file system inside become errors of the contract."""
    with contextlib.ExitStack() as stack:
        try:
            fd = _open_root(root)
            stack.callback(os.close, fd)
            closed = _open_closed(fd)
            if closed is not None:
                stack.callback(os.close, closed)
            yield Dirs(fd, closed)
        except OSError as error:
            raise as_plugin_error(error, root) from error


def _open_root(root: Path) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Missing(f"the folder {root} is not there") from error


def _open_closed(root: int) -> int | None:
    """Open the directory ``closed``; a file or a symlink of that name counts as absent."""
    try:
        return os.open(CLOSED, os.O_RDONLY | os.O_DIRECTORY | _HERE, dir_fd=root)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return None
        raise


@contextlib.contextmanager
def locked(dirs: Dirs) -> Iterator[int]:
    """Hold the lock of writers, among threads and processes. Files left behind by crashed writers are deleted."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | _HERE, 0o666, dir_fd=dirs.root)
        try:
            if _take(fd, dirs.root):
                _delete_leftovers(dirs)
                yield fd
                return
        finally:
            os.close(fd)
        if time.monotonic() > until:
            raise Unavailable(f"another process has held {LOCK} for {LOCK_SECONDS:.0f} seconds")
        time.sleep(0.005)


def _take(fd: int, root: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with contextlib.suppress(FileNotFoundError):
        # A person may have deleted the lock file: then this lock excludes no one.
        return os.path.samestat(os.fstat(fd), os.stat(LOCK, dir_fd=root, follow_symlinks=False))
    return False


def _delete_leftovers(dirs: Dirs) -> None:
    for fd in dirs.all:
        with os.scandir(fd) as entries:
            left = [item.name for item in entries if item.name.startswith(_TEMP)]
        for name in left:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=fd)


def last_number(lock: int) -> int:
    """Return the highest number ever assigned, from the lock file; 0 if it contains none."""
    text = os.pread(lock, 32, 0).split(b"\n")[0].strip()
    return int(text) if text.isdigit() and len(text) <= 9 else 0


def keep_number(lock: int, number: int) -> None:
    """Write the highest assigned number durably."""
    os.pwrite(lock, f"{number}\n".encode(), 0)
    os.fsync(lock)


def read(fd: int, name: str, limit: int = MAX_BYTES) -> bytes:
    """Return a file's bytes. A smaller ``limit`` returns its beginning; a file beyond MAX_BYTES is refused."""
    file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _HERE, dir_fd=fd)
    with open(file, "rb") as source:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise Refused(f"{name} is not a file")
        data = source.read(limit + 1)
    if limit == MAX_BYTES < len(data):
        raise Refused(f"{name} is larger than {MAX_BYTES} bytes")
    return data[:limit]


def exists(fd: int, name: str) -> bool:
    """Return whether anything has this name."""
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def write_temp(fd: int, data: bytes, like: os.stat_result | None = None) -> str:
    """Write a complete file under a temporary name, with the permissions of the file that it will replace."""
    if len(data) > MAX_BYTES:
        raise Refused(f"the file would be larger than {MAX_BYTES} bytes")
    name = f"{_TEMP}{secrets.token_hex(8)}"
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _HERE, 0o666, dir_fd=fd)
    try:
        with open(file, "wb") as target:  # noqa: PTH123 - a descriptor, not a path
            if like is not None:
                with contextlib.suppress(OSError):
                    os.fchown(file, -1, like.st_gid)
                with contextlib.suppress(OSError):
                    os.fchmod(file, stat.S_IMODE(like.st_mode))
            target.write(data)
            target.flush()
            os.fsync(file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=fd)
        raise
    return name


def place(fd: int, temp: str, name: str) -> None:
    """Give a finished file its name, never over another file of that name."""
    try:
        os.link(temp, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    except FileExistsError as error:
        os.unlink(temp, dir_fd=fd)
        raise Conflict(f"somebody else made {name} at the same moment") from error
    except OSError:
        # Some network file systems have no hard links. The lock keeps other writers of ours away.
        if exists(fd, name):
            os.unlink(temp, dir_fd=fd)
            raise Conflict(f"somebody else made {name} at the same moment") from None
        os.rename(temp, name, src_dir_fd=fd, dst_dir_fd=fd)
    else:
        with contextlib.suppress(OSError):
            os.unlink(temp, dir_fd=fd)
    sync_folder(fd)


def replace(fd: int, name: str, before: bytes, after: bytes) -> None:
    """Replace an old file by a new one, unless the old file is not as it was read (Conflict)."""
    temp = write_temp(fd, after, os.stat(name, dir_fd=fd, follow_symlinks=False))
    if not _still(fd, name, before):
        os.unlink(temp, dir_fd=fd)
        raise Conflict(f"{name} was changed by somebody else meanwhile")
    os.rename(temp, name, src_dir_fd=fd, dst_dir_fd=fd)
    sync_folder(fd)


def _still(fd: int, name: str, before: bytes) -> bool:
    # The bytes are compared, not the times: two changes within one tick of a file system's clock look alike.
    try:
        return read(fd, name) == before
    except (FileNotFoundError, Refused):
        return False


def move_back(dirs: Dirs, name: str) -> None:
    """Move a file out of ``closed/``, never over another file of that name."""
    if exists(dirs.root, name):
        raise Conflict(f"{name} is in the folder and in {CLOSED}/: keep one")
    os.rename(name, name, src_dir_fd=dirs.closed, dst_dir_fd=dirs.root)
    sync_folder(dirs.root)


def sync_folder(fd: int) -> None:
    """Make a new name survive a crash of the machine, where the file system can."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise UnknownOutcome(f"the folder may not have kept the change: {error.strerror}") from error
