"""The private salt: made once, for its owner's eyes, outside everything that is passed on."""

import os
import threading
import time
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from data_prep.reading import salt_file

pytestmark = pytest.mark.fast


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_the_default_is_made_once_for_its_owner_alone(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    old = os.umask(0)
    try:
        salt, path = salt_file.load("", output)
    finally:
        os.umask(old)
    assert path == tmp_path / "config" / "clinicalbert_jax" / "salt"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert salt_file.load("", output) == (salt, path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    assert salt_file.load("", output)[0] != salt


def test_a_file_of_ones_own_is_made_or_read(tmp_path: Path, output: Path) -> None:
    salt, path = salt_file.load(str(tmp_path / "mine"), output)
    assert path.read_bytes() == salt + b"\n"
    (tmp_path / "link").symlink_to(path)
    assert salt_file.load(str(tmp_path / "link"), output)[0] == salt


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_open_is_refused(tmp_path: Path, output: Path, mode: int) -> None:
    _, path = salt_file.load(str(tmp_path / "mine"), output)
    path.chmod(mode)
    with pytest.raises(UserError, match="by its owner alone"):
        salt_file.load(str(path), output)


def test_places_that_are_passed_on_are_refused(tmp_path: Path, output: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").touch()
    output.mkdir()
    (tmp_path / "link").symlink_to(output)
    for place in ("out/salt", "out/a/b/salt", "data/salt", "link/salt"):
        with pytest.raises(UserError, match="outside --output_dir and outside datasets"):
            salt_file.load(str(tmp_path / place), output)
    assert not list(output.iterdir())


def test_a_salt_that_can_be_guessed_or_not_be_read_is_refused(tmp_path: Path, output: Path) -> None:
    (tmp_path / "short").touch(mode=0o600)
    (tmp_path / "short").write_text("pepper\n")
    with pytest.raises(UserError, match="at least 16 bytes"):
        salt_file.load(str(tmp_path / "short"), output)
    for given in (tmp_path / "none" / "salt", tmp_path / "short" / "salt"):
        with pytest.raises(UserError, match=r"cannot (be read or made|write to)"):
            salt_file.load(str(given), output)


def test_processes_that_make_it_at_the_same_time_have_the_same(
    tmp_path: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads here: what keeps processes apart is the kernel's lock, which is between openings of a file."""
    write_text, found = Path.write_text, []

    def slowly(path: Path, text: str) -> int:
        time.sleep(0.05)
        return write_text(path, text)

    monkeypatch.setattr(Path, "write_text", slowly)

    def load() -> None:
        found.append(salt_file.load(str(tmp_path / "salt"), output)[0])

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["salt"]
