"""The data folder of the embedded PostgreSQL: its files, its permissions and its lock."""

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
    """The paths of a data folder. ``owner`` is the user that PostgreSQL runs as, if it is not ours."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - Path.absolute keeps ".."
        self.cluster = self.path / "postgres"
        self.log = self.path / "postgres.log"
        self.owner: tuple[int, int] | None = None
        self._record = self.path / "postgres.socket-dir"

    def claim(self) -> None:
        """Create the folder if it is missing. Raises EmbeddedError if it belongs to somebody else. Modes are not changed."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            status = self.path.stat()
        except OSError as error:
            raise explain_error(self.path, error) from error
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
        """Open or create one of our files. Symbolic links are refused."""
        try:
            file = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            if self.owner is not None:
                os.fchown(file, *self.owner)
        except OSError as error:
            raise explain_error(path, error) from error
        return file

    def make_temporary(self, prefix: str, parent: Path) -> Path:
        """Create a private folder for the user that PostgreSQL runs as."""
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        if self.owner is not None:
            os.chown(folder, *self.owner)
        return folder

    def install_cluster(self, folder: Path) -> None:
        """Rename a complete folder to the cluster, durably."""
        folder.rename(self.cluster)
        parent = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def clean_up(self) -> None:
        """Rotate a large log, and remove the pid file of a dead server. Call it before a start, under the lock.

        The pid can belong to another process by now, as happens in containers, and PostgreSQL would refuse to start. We
        hold the lock, so none of our servers runs, and one that was started by hand has the cluster as working directory.
        """
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_name("postgres.log.1"))
        pid_file = self.cluster / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(pid_file.read_text().split()[0])
            if Path(f"/proc/{pid}/cwd").readlink() != self.cluster.resolve():
                pid_file.unlink()

    def remove_empty_lock_files(self) -> None:
        """Remove empty lock files before a start, under the lock.

        A server that was killed while it wrote them leaves empty ones, with which PostgreSQL refuses to start.
        """
        lock_files = [self.cluster / "postmaster.pid"]
        if (folder := self.socket_folder()) is not None:
            lock_files.append(socket_file(folder).with_name(socket_file(folder).name + ".lock"))
        for lock_file in lock_files:
            with contextlib.suppress(OSError):
                if lock_file.stat().st_size == 0:
                    lock_file.unlink()

    def log_size(self) -> int:
        """Return the current size of the log in bytes."""
        return self.log.stat().st_size if self.log.exists() else 0

    def read_log(self, position: int) -> str:
        """Return the text of the log from a position on."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, position))
            return log.read().decode(errors="replace")
        return ""

    def socket_folder(self) -> Path | None:
        """Return the folder of the socket: beside the cluster, or the recorded one if that path is too long. None: not yet."""
        beside = self.path / "postgres.socket"
        if _fits(beside):
            return beside
        try:
            folder = Path(self._record.read_text())
            return folder if _private(folder) else None
        except OSError:
            return None

    def claim_socket_folder(self) -> Path:
        """Return the folder of the socket, created and recorded if it is missing. Call it under the lock."""
        folder = self.socket_folder()
        try:
            if folder is None:
                parents = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")  # noqa: S108 - made private
                parent = next(
                    Path(path) for path in parents if path and _fits(Path(path) / "pointsman-12345678")
                )
                folder = self.make_temporary("pointsman-", parent)
                draft = self._record.with_name("postgres.socket-dir.new")
                file = self.open_own(draft, os.O_WRONLY | os.O_TRUNC)
                with os.fdopen(file, "w") as record:
                    record.write(str(folder))
                draft.replace(self._record)
            elif not folder.exists():
                self.make_temporary("postgres.socket-", self.path).rename(folder)
        except OSError as error:
            raise explain_error(folder or self._record, error) from error
        if not _private(folder):
            raise EmbeddedError(
                f"{folder}, which contains PostgreSQL's socket, is open to other users, who could connect without a "
                f"password. Remove that folder: it is created again."
            )
        return folder


class Lock:
    """The lock file beside the cluster. The owner and all processes of its server share its file descriptor."""

    def __init__(self, folder: DataFolder) -> None:
        self.path = folder.path / "postgres.lock"
        self.file = folder.open_own(self.path, os.O_RDWR)

    def acquire(self) -> bool:
        """Try to get the lock and write our pid into it. Return whether we have it."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self.file, 0)
            os.pwrite(self.file, f"{os.getpid()}\n{shlex.join(sys.argv)[:200]}\n".encode(errors="replace"), 0)
        except BlockingIOError:
            return False
        except OSError as error:
            raise explain_error(self.path, error) from error
        return True

    def holder(self) -> tuple[str, bool]:
        """Return a description of the process that has the lock, and whether it is alive."""
        pid, _, command = os.pread(self.file, 500, 0).decode(errors="replace").strip().partition("\n")
        if not pid.isdecimal():
            return "a process that has not written its pid yet", True
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return f"a server whose owner, pid {pid} ({command}), has ended", False
        except PermissionError:
            pass
        return f"pid {pid} ({command})", True

    def close(self) -> None:
        """Release our descriptor. Running processes of the server keep the lock."""
        os.close(self.file)


def socket_file(folder: Path) -> Path:
    """Return the path of the server's socket."""
    return folder / f".s.PGSQL.{PORT}"


def dsn(folder: Path) -> str:
    """Return the DSN. It contains the port, so that PGPORT has no effect."""
    return f"postgresql://{USER}@/{DATABASE}?host={quote(str(folder))}&port={PORT}"


def explain_error(path: Path, error: OSError) -> EmbeddedError:
    """Return an EmbeddedError with the next step for an error of the system."""
    return EmbeddedError(
        f"{path}: {error.strerror or error}. The data folder must belong to the user who runs pointsman "
        f"and be on a local disk: choose another, correct this one, or set POINTSMAN_DATABASE_URL to use a server "
        f"that runs elsewhere."
    )


def _fits(folder: Path) -> bool:
    """Return whether a DSN can name a socket in this folder: it is short, and without commas and quotes."""
    name = os.fsencode(socket_file(folder))
    return len(name) <= _SOCKET_PATH_BYTES and not set(b",\"'\\") & set(name)


def _private(folder: Path) -> bool:
    """Return whether it is a folder of ours (or of anyone, for root) without permissions for others."""
    status = folder.lstat()
    ours = os.geteuid() in (0, status.st_uid)
    return ours and stat.S_ISDIR(status.st_mode) and status.st_mode & 0o077 == 0
