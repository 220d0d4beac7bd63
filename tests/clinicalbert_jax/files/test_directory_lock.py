"""The lock of a directory: who is refused, who waits, and what is left."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import directory_lock
from clinicalbert_jax.files.directory_lock import held

HOLD = """
import sys, time
from pathlib import Path
from types import ModuleType
from clinicalbert_jax.files.directory_lock import held
with held(Path(sys.argv[1]), "--workdir"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_by_name_until_the_first_is_killed(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        named = rf"^--workdir: .*process {process.pid} on host .*$"
        with pytest.raises(UserError, match=named), held(directory, "--workdir"):
            pass
        process.send_signal(signal.SIGKILL)
    with held(directory, "--workdir"):
        assert f'"pid": {os.getpid()}' in (directory / ".lock").read_text()
    assert not list(directory.iterdir())


def test_a_waiting_process_continues_alone_when_the_holder_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = []

    def second() -> None:
        with held(tmp_path, "cache", wait=True):
            # It had the first holder's file open, which is removed: a third must not lock a new one.
            with pytest.raises(UserError, match="in use"), held(tmp_path, "cache"):
                pass
            order.append("second")

    with held(tmp_path, "cache"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert capsys.readouterr().err.startswith(f"waiting for {tmp_path}: in use by another process (process ")


def test_the_directory_may_be_removed_or_replaced_where_the_lock_is_beside_it(tmp_path: Path) -> None:
    with held(tmp_path / "out", "--output_dir", beside=True):
        assert not (tmp_path / "out").exists()
        with pytest.raises(UserError, match="in use"), held(tmp_path / "out", "--output_dir", beside=True):
            pass


def test_no_lock_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("TEXT\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "notes.csv")
    with pytest.raises(UserError, match="--workdir: cannot write to"), held(tmp_path / "run", "--workdir"):
        pass
    assert (tmp_path / "notes.csv").read_text() == "TEXT\n"


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with directory_lock.held(tmp_path, "--workdir"):
        pass
    assert "without locks" in capsys.readouterr().err


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(("module", "name"), [(os, "open"), (fcntl, "flock"), (os, "ftruncate"), (os, "pwrite")])
def test_a_signal_while_the_lock_is_taken_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, done: bool
) -> None:
    """Before a call to the kernel is made, or once it is and before its result is at hand."""
    real = getattr(module, name)

    def signalled(*arguments: int) -> None:
        monkeypatch.setattr(module, name, real)
        if done:
            real(*arguments)
        raise SystemExit(143)

    monkeypatch.setattr(module, name, signalled)
    with pytest.raises(SystemExit), held(tmp_path / "run", "--workdir", beside=True):
        pytest.fail("it was not held")
    assert not list(tmp_path.iterdir())
