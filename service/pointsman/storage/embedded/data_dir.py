"""The data folder of the embedded PostgreSQL: what lies in it, who may use it, who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from pointsman.storage.embedded.binaries import EmbeddedError

DATABASE = "pointsman"
USER = "pointsman"
PORT = 5432  # a part of the socket's name, no more

_SOCKET_PATH_BYTES = 100  # the system's limit is 107 on Linux, 103 elsewhere
_LOG_BYTES = 10 * 1024 * 1024


class DataFolder:
    """The data folder's parts. ``owner`` is the user PostgreSQL runs as, where that isn't us."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - Path.absolute keeps ".."
        self.cluster = self.path / "postgres"
        self.log = self.path / "postgres.log"
        self.owner: tuple[int, int] | None = None
        self._record = self.path / "postgres.socket-dir"

    def claim(self) -> None:
        """Make the folder if it is missing; refuse one that isn't ours. Modes of what exists stay as they are."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            status = self.path.stat()
        except OSError as error:
            raise explained(self.path, error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise EmbeddedError(f"{self.path} is not a folder. Choose another data folder.")
        if os.geteuid() not in (0, status.st_uid):
            raise EmbeddedError(
                f"{self.path} belongs to uid {status.st_uid}, and this process runs as uid {os.geteuid()}. "
                f"Run it as that user, or choose another data folder."
            )
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            raise EmbeddedError(
                f"{self.path} can't be written to. Choose another data folder, or open this one to its owner."
            )

    def open_own(self, path: Path, flags: int) -> int:
        """Open a file of ours, made if it is missing; a link that leads elsewhere is refused."""
        try:
            file = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            if self.owner is not None:
                os.fchown(file, *self.owner)
        except OSError as error:
            raise explained(path, error) from error
        return file

    def make_aside(self, prefix: str, above: Path) -> Path:
        """A new private folder of the user PostgreSQL runs as."""
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=above))
        if self.owner is not None:
            os.chown(folder, *self.owner)
        return folder

    def adopt(self, aside: Path) -> None:
        """Make a finished folder the cluster, for good."""
        aside.rename(self.cluster)
        above = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(above)
        finally:
            os.close(above)

    def tidy(self) -> None:
        """Before a start, under the lock: keep the log in check, drop the mark of a dead server.

        The mark names a pid. Where that is some other process by now, as happens in containers, PostgreSQL would
        refuse to start for ever. We hold the lock, so no server of ours lives, and one started by hand works in
        the cluster's folder.
        """
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_name("postgres.log.1"))
        mark = self.cluster / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(mark.read_text().split()[0])
            if Path(f"/proc/{pid}/cwd").readlink() != self.cluster.resolve():
                mark.unlink()

    def drop_empty_marks(self) -> None:
        """Before each start, under the lock: a server killed while it wrote its marks leaves them empty, and PostgreSQL
        would refuse to start over such a one for ever.
        """
        marks = [self.cluster / "postmaster.pid"]
        if (folder := self.socket_folder()) is not None:
            marks.append(socket_file(folder).with_name(socket_file(folder).name + ".lock"))
        for mark in marks:
            with contextlib.suppress(OSError):
                if mark.stat().st_size == 0:
                    mark.unlink()

    def log_size(self) -> int:
        """How long the log is now."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_words(self, position: int) -> str:
        """The log's text from a position on."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, position))
            return log.read().decode(errors="replace")
        return ""

    def socket_folder(self) -> Path | None:
        """The socket's folder: beside the cluster, or where a too long path has sent it, if it has."""
        beside = self.path / "postgres.socket"
        if _fits(beside):
            return beside
        try:
            folder = Path(self._record.read_text())
            return folder if _private(folder) else None
        except OSError:
            return None

    def claim_socket_folder(self) -> Path:
        """The socket's folder, made if it is missing. Under the lock: its choice is written down for others."""
        folder = self.socket_folder()
        try:
            if folder is None:
                places = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")  # noqa: S108 - made private
                above = next(
                    Path(place) for place in places if place and _fits(Path(place) / "pointsman-12345678")
                )
                folder = self.make_aside("pointsman-", above)
                draft = self._record.with_name("postgres.socket-dir.new")
                file = self.open_own(draft, os.O_WRONLY | os.O_TRUNC)
                with os.fdopen(file, "w") as record:
                    record.write(str(folder))
                draft.replace(self._record)
            elif not folder.exists():
                self.make_aside("postgres.socket-", self.path).rename(folder)
        except OSError as error:
            raise explained(folder or self._record, error) from error
        if not _private(folder):
            raise EmbeddedError(
                f"{folder}, where PostgreSQL's socket lies, is open to other users, who could connect without a "
                f"password. Remove that folder: it is made again."
            )
        return folder


class Lock:
    """The lock beside the cluster, held through one file descriptor by the owner and all processes of its server."""

    def __init__(self, folder: DataFolder) -> None:
        self.path = folder.path / "postgres.lock"
        self.file = folder.open_own(self.path, os.O_RDWR)

    def take(self) -> bool:
        """Whether it is ours now; then our name stands in it."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self.file, 0)
            os.pwrite(self.file, f"{os.getpid()}\n{shlex.join(sys.argv)[:200]}\n".encode(errors="replace"), 0)
        except BlockingIOError:
            return False
        except OSError as error:
            raise explained(self.path, error) from error
        return True

    def holder(self) -> tuple[str, bool]:
        """Who took it, as text, and whether that process is alive."""
        pid, _, command = os.pread(self.file, 500, 0).decode(errors="replace").strip().partition("\n")
        if not pid.isdecimal():
            return "a process that has not said its name yet", True
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return f"a server whose owner, pid {pid} ({command}), has ended", False
        except PermissionError:
            pass
        return f"pid {pid} ({command})", True

    def close(self) -> None:
        """Let go; processes of the server that still live hold on."""
        os.close(self.file)


def socket_file(folder: Path) -> Path:
    """The server's socket in its folder."""
    return folder / f".s.PGSQL.{PORT}"


def dsn(folder: Path) -> str:
    """How to connect; names the port too, lest PGPORT of the environment changes it."""
    return f"postgresql://{USER}@/{DATABASE}?host={quote(str(folder))}&port={PORT}"


def explained(path: Path, error: OSError) -> EmbeddedError:
    """An error of the system as one that says what to do."""
    return EmbeddedError(
        f"{path}: {error.strerror or error}. The data folder must belong to the user who runs pointsman "
        f"and stand on a local disk: choose another, correct this one, or set POINTSMAN_DATABASE_URL to use a server "
        f"that runs elsewhere."
    )


def _fits(folder: Path) -> bool:
    """Whether a socket in this folder can be named; a comma would part the name in two, a quote end it."""
    name = os.fsencode(socket_file(folder))
    return len(name) <= _SOCKET_PATH_BYTES and not set(b",\"'\\") & set(name)


def _private(folder: Path) -> bool:
    """Whether it is a folder, and closed to everybody but its owner, who is us, or root made us look here."""
    status = folder.lstat()
    ours = os.geteuid() in (0, status.st_uid)
    return ours and stat.S_ISDIR(status.st_mode) and status.st_mode & 0o077 == 0
