"""A directory written as a whole or not at all."""

import contextlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from clinicalbert_jax.errors import UserError


def check(output: Path, overwrite: bool, replaceable: Callable[[Path], bool]) -> None:
    """Raise `UserError` unless a directory may be written to `output`: a new one, or with `overwrite` an earlier one.

    `replaceable` tells an earlier output of the same command from a directory of something else.
    """
    _, old = _beside(output)
    if old.exists() and not output.exists():  # a process was killed between the two renames of `new`
        old.rename(output)
    if output.is_file() or not output.absolute().parent.is_dir():
        raise UserError(f"--output_dir: expected a new directory inside an existing one, found {output}")
    if output.exists() and any(output.iterdir()):
        if not overwrite:
            raise UserError(f"--output_dir: {output} exists: give another name, or --overwrite to replace it")
        if not replaceable(output):
            raise UserError(f"--overwrite: expected an earlier output in {output}, found something else: remove it")


@contextlib.contextmanager
def new(output: Path) -> Iterator[Path]:
    """A directory to write in that becomes `output` as a whole at the end, or vanishes after an error.

    Call `check` first: what stands at `output` is replaced.
    """
    partial, old = _beside(output)
    for leftover in (partial, old):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial.mkdir()
        yield partial
        if output.exists():
            output.rename(old)
        partial.rename(output)
    except OSError as error:
        raise UserError(f"--output_dir: cannot write {error.filename} ({error.strerror})") from None
    finally:
        if old.exists() and not output.exists():
            old.rename(output)
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _beside(output: Path) -> tuple[Path, Path]:
    """Where the new directory is written, and where the old one waits until the new one is in its place."""
    partial, old = (output.absolute().with_name(f".{output.name}.{state}") for state in ("partial", "old"))
    return partial, old


def clean_up_when_terminated() -> None:
    """Make SIGTERM end the process as Ctrl-C does, by an exception, so that what was begun is taken away."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
