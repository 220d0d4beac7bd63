"""One process at a time in a directory. The kernel releases the lock when its holder ends, however it ends."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from clinicalbert_jax.errors import UserError

FILE_NAME = ".lock"

# What flock gives on a file system without locks: some network mounts and FUSE.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def held(directory: Path, what: str, wait: bool = False, beside: bool = False) -> Iterator[None]:
    """Hold `directory` against every other process, and make it where it is missing; links to it are followed.

    `what` names the directory in messages, such as '--workdir'. `wait`: wait for another holder instead of refusing.
    `beside`: the lock lies beside the directory, which is then not made: for one that is renamed or removed as a whole.
    Only the process that calls holds the lock: in a run of many processes, process 0. Raises `UserError` in one line
    that names the host and process of the other holder. Where the file system cannot lock, it warns and goes ahead.
    """
    path = directory.absolute().with_name(f".{directory.name}.lock") if beside else directory / FILE_NAME
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = _locked(path, directory, what, wait)
    except OSError as error:
        raise UserError(f"{what}: cannot write to {path.parent} ({error.strerror})") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_at(path, descriptor):
                path.unlink()
        os.close(descriptor)


def _locked(path: Path, directory: Path, what: str, wait: bool) -> int:
    """The descriptor of the lock file at `path`, locked."""
    said = False
    while True:
        descriptor = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(descriptor)
                if not wait:
                    raise UserError(
                        f"{what}: {directory} is in use by another process ({holder}): "
                        "wait until it ends, or give another"
                    ) from None
                if not said:
                    print(f"waiting for {directory}: in use by another process ({holder})", file=sys.stderr)
                    said = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                print(
                    f"warning: {path.parent} is on a file system without locks: "
                    "make sure that no other process uses it",
                    file=sys.stderr,
                )
                return descriptor
            if _is_at(path, descriptor):  # else the last holder has removed the file since it was opened
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0)
                return descriptor
        except BaseException:  # a signal, too, leaves no file behind
            if descriptor is not None:
                os.close(descriptor)
            _remove_unheld(path)
            raise
        os.close(descriptor)


def _remove_unheld(path: Path) -> None:
    """Opens it anew: a signal may come when the file is made and before its descriptor is known."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where another process holds it
            if _is_at(path, descriptor):
                path.unlink()
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {int(holder['pid'])} on host {ascii(holder['host'])[1:-1]}"
    except (ValueError, KeyError, TypeError):  # it has not written its name yet
        return "its name is not known yet"
