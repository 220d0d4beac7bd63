"""A file or a directory written as a whole or not at all, never over an input, and by one process at a time.

A command checks its output before it begins (`check_file`, `check_directory`), so that hours of work are not lost to
a name that is taken, and writes within `file` or `directory`, which check again.
"""

import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock, patterns

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib makes one slash of two


def local_path(output: str | Path, flag: str) -> Path:
    """`output` as an absolute path, with `~` and links followed. Raises `UserError` for a URL."""
    if _URL.match(str(output)):
        raise UserError(f"{flag}: expected a local path, found a URL: write to a local path and copy it there")
    path = patterns.expanded(output)
    return path if _is_device(path) else Path(os.path.realpath(path))


def check_file(
    output: str | Path, overwrite: bool = False, inputs: Iterable[str | Path] = (), flag: str = "--output"
) -> Path:
    """The path of a file that may be written: new, or with `overwrite` an earlier one; `UserError` otherwise.

    `inputs` are the files that the command reads, which are never written over.
    """
    path = local_path(output, flag)
    if path.is_dir():
        raise UserError(f"{flag}: expected the name of a file, found the directory {path}")
    refuse_inputs(path, inputs, flag)
    if path.is_file() and not overwrite:
        raise UserError(f"{flag}: {path} exists: give another name, or --overwrite to replace it")
    return path


@contextlib.contextmanager
def file(
    output: str | Path, overwrite: bool = False, inputs: Iterable[str | Path] = (), flag: str = "--output"
) -> Iterator[Path]:
    """A path to write to, with the same suffix; what is written there becomes `output` at the end, or is removed.

    Checks as `check_file` does. A device or a pipe, such as /dev/stdout, is written to directly.
    """
    path = check_file(output, overwrite, inputs, flag)
    if _is_device(path):
        yield path
        return
    with directory_lock.held(path, flag, beside=True):
        check_file(path, overwrite, inputs, flag)  # another process may have written it in the meantime
        partial = path.with_name(f".partial.{path.name}")
        try:
            yield partial
            flush(partial)
            partial.replace(path)
            flush(path.parent)
        except OSError as error:
            raise _cannot_write(flag, path, error) from None
        finally:
            partial.unlink(missing_ok=True)


def check_directory(
    output: str | Path,
    overwrite: bool,
    replaceable: Callable[[Path], bool],
    inputs: Iterable[str | Path] = (),
    flag: str = "--output_dir",
) -> Path:
    """The path of a directory that may be written: a new one in an existing one, or with `overwrite` an earlier one.

    `replaceable` tells an earlier output of the same command from a directory of something else. Raises `UserError`
    otherwise, and where one of `inputs` is the directory or lies in it.
    """
    path = local_path(output, flag)
    _, old = _beside(path)
    there = old if old.exists() and not path.exists() else path  # a process was killed between its two renames
    if path.is_file() or not path.parent.is_dir():
        raise UserError(f"{flag}: expected a new directory inside an existing one, found {path}")
    refuse_inputs(path, inputs, flag)
    if there.exists() and any(there.iterdir()):
        if not overwrite:
            raise UserError(f"{flag}: {path} exists: give another name, or --overwrite to replace it")
        if not replaceable(there):
            raise UserError(f"--overwrite: expected an earlier output in {path}, found something else: remove it")
    return path


@contextlib.contextmanager
def directory(
    output: str | Path,
    overwrite: bool,
    replaceable: Callable[[Path], bool],
    inputs: Iterable[str | Path] = (),
    flag: str = "--output_dir",
) -> Iterator[Path]:
    """A directory to write in that becomes `output` as a whole at the end, or is removed after an error.

    Checks as `check_directory` does.
    """
    path = check_directory(output, overwrite, replaceable, inputs, flag)
    partial, old = _beside(path)
    with directory_lock.held(path, flag, beside=True):
        if old.exists() and not path.exists():
            old.rename(path)
        check_directory(path, overwrite, replaceable, inputs, flag)
        for leftover in (partial, old):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            partial.mkdir()
            yield partial
            for written in (*partial.rglob("*"), partial):
                flush(written)
            if path.exists():
                path.rename(old)
            partial.rename(path)
            flush(path.parent)
        except OSError as error:
            raise _cannot_write(flag, path, error) from None
        finally:
            if old.exists() and not path.exists():
                old.rename(path)
            for leftover in (partial, old):
                shutil.rmtree(leftover, ignore_errors=True)


def clean_up_when_terminated() -> None:
    """Make SIGTERM end the process as Ctrl-C does, by an exception, so that what was begun is removed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _is_device(path: Path) -> bool:
    """Whether it is a device or a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


def refuse_inputs(path: Path, inputs: Iterable[str | Path], flag: str) -> None:
    """Compare as the file system does: links, hard links, and letter case where that does not matter."""
    if not path.exists():
        return
    for read in (patterns.expanded(given) for given in inputs):
        if read.exists() and any(path.samefile(part) for part in (read, *read.resolve().parents)):
            raise UserError(f"{flag}: {path} is or holds an input of this command: give another name")


def _beside(path: Path) -> tuple[Path, Path]:
    """Where the new directory is written, and where the old one waits until the new one is in its place."""
    return path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")


def flush(path: Path) -> None:
    """Make sure that a file, or the names in a directory, are on the disk and not in memory alone."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot_write(flag: str, path: Path, error: OSError) -> UserError:
    return UserError(
        f"{flag}: cannot read or write {error.filename or path} ({error.strerror or type(error).__name__})"
    )
