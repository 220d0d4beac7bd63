"""Outputs: whole or absent, never over an input or a stranger's file, and one process at a time."""

import string
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output, directory_lock

pytestmark = pytest.mark.fast


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def directory(output: Path, overwrite: bool = False) -> AbstractContextManager[Path]:
    return atomic_output.directory(output, overwrite, lambda there: (there / "config.json").exists())


def write(output: str | Path, text: str, **options: object) -> None:
    with atomic_output.file(output, **options) as partial:  # type: ignore[arg-type]
        partial.write_text(text)


def test_an_interrupted_file_or_directory_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), directory(tmp_path / "out") as partial:
        (partial / "config.json").write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_output.file(tmp_path / "out.npz") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_interrupted_while_replacing_it_leaves_the_old(tmp_path: Path) -> None:
    write(tmp_path / "file", "old")
    with directory(tmp_path / "out") as partial:
        (partial / "config.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), directory(tmp_path / "out", overwrite=True) as partial:
        (partial / "config.json").write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), atomic_output.file(tmp_path / "file", overwrite=True) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "out/config.json").read_text() == (tmp_path / "file").read_text() == "old"
    write(tmp_path / "file", "new", overwrite=True)
    with directory(tmp_path / "out", overwrite=True) as partial:
        (partial / "config.json").write_text("new")
    assert (tmp_path / "out/config.json").read_text() == (tmp_path / "file").read_text() == "new"
    assert names(tmp_path) == ["file", "out"]


def test_killed_between_its_two_renames_the_old_comes_back(tmp_path: Path) -> None:
    with directory(tmp_path / "out") as partial:
        (partial / "config.json").write_text("old")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(UserError, match="exists: give another name"), directory(tmp_path / "out"):
        pass
    with pytest.raises(KeyboardInterrupt), directory(tmp_path / "out", overwrite=True):
        raise KeyboardInterrupt
    assert (tmp_path / "out/config.json").read_text() == "old"


def test_only_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/precious.txt").write_text("kept")
    with pytest.raises(UserError, match="found something else"), directory(tmp_path / "notes", overwrite=True):
        pass
    with pytest.raises(UserError, match="inside an existing one"), directory(tmp_path / "absent/out"):
        pass
    with pytest.raises(UserError, match=r"precious\.txt exists: .*--overwrite"):
        write(tmp_path / "notes/precious.txt", "lost")
    with pytest.raises(UserError, match="found the directory"):
        write(tmp_path / "notes", "lost", overwrite=True)
    assert (tmp_path / "notes/precious.txt").read_text() == "kept"


@pytest.mark.parametrize("spelling", ["notes.csv", "./sub/../notes.csv", "link.csv", "hard.csv", "link/notes.csv"])
@pytest.mark.parametrize("given", ["notes.csv", "link.csv", "hard.csv"])
def test_never_over_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, given: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.csv").write_text("TEXT")
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to("notes.csv")
    (tmp_path / "hard.csv").hardlink_to("notes.csv")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="input of this command"):
        write(spelling, "lost", overwrite=True, inputs=[given])
    with pytest.raises(UserError, match="input of this command"):
        atomic_output.check_directory("link", True, lambda there: True, inputs=[given])
    assert (tmp_path / "notes.csv").read_text() == "TEXT"


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://b/x", "gs:/bucket/x", "file:///tmp/x", "hf://a/b"])
def test_a_url_is_refused_and_makes_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^--output: expected a local path, found a URL"):
        write(url, "text")
    with pytest.raises(UserError, match=r"^--output_dir: expected a local path, found a URL"), directory(Path(url)):
        pass
    assert names(tmp_path) == []


def test_every_printable_character_is_only_a_name(tmp_path: Path) -> None:
    for character in sorted(set(string.printable) - {"/"}):
        write(tmp_path / f"a{character}b", repr(character))
        assert (tmp_path / f"a{character}b").read_text() == repr(character)
        with directory(tmp_path / f"[{character}]*?") as partial:
            (partial / "config.json").write_text("{}")
        assert names(tmp_path / f"[{character}]*?") == ["config.json"]
    assert len(names(tmp_path)) == 2 * (len(string.printable) - 1)


def test_a_link_is_followed_and_a_pipe_written_to(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out.txt").symlink_to("scratch/out.txt")
    write(tmp_path / "out.txt", "text")
    assert (tmp_path / "out.txt").is_symlink()
    assert (tmp_path / "scratch/out.txt").read_text() == "text"
    write("/dev/null", "text")
    assert not Path("/dev/null").is_file()


def test_a_second_process_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    with directory(tmp_path / "out") as partial, atomic_output.file(tmp_path / "file") as written:
        (partial / "config.json").write_text("first")
        written.write_text("first")
        with pytest.raises(UserError, match="in use by another process"), directory(tmp_path / "out"):
            pass
        with pytest.raises(UserError, match="in use by another process"):
            write(tmp_path / "file", "second")
    assert (tmp_path / "out/config.json").read_text() == (tmp_path / "file").read_text() == "first"


def test_an_output_finished_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may end between the check and the lock."""
    held = directory_lock.held

    def other_first(path: Path, flag: str, beside: bool) -> AbstractContextManager[None]:
        path.write_text("theirs")
        return held(path, flag, beside=beside)

    monkeypatch.setattr(directory_lock, "held", other_first)
    with pytest.raises(UserError, match="exists"):
        write(tmp_path / "file", "ours")
    assert (tmp_path / "file").read_text() == "theirs"
