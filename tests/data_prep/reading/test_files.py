"""Paths and URLs of notes: what exists under a name is read, and nothing else that the name would match."""

import gzip
import os
import string
from pathlib import Path

import fsspec
import pytest

from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError
from data_prep.reading import files
from data_prep.sharding import fingerprint

pytestmark = pytest.mark.fast

NAMES = [f"a{character}b" for character in string.printable if character != "/"] + ["a[1]b", "a[!x]b", "*", "é中"]


def place(base: str, name: str) -> str:
    """A file in a directory of its name, the same beside it where a pattern of that name leads, and its URL."""
    filesystem, root = fsspec.core.url_to_fs(base)
    for directory, content in ((name, b"right"), ("a1b", b"wrong"), ("axb", b"wrong"), ("azb", b"wrong")):
        if not filesystem.exists(f"{root}/{directory}/{name}.csv"):
            filesystem.makedirs(f"{root}/{directory}", exist_ok=True)
            filesystem.pipe_file(f"{root}/{directory}/{name}.csv", content)
    return f"{base}/{name}"


@pytest.mark.parametrize("where", ["local", "url"])
def test_every_printable_name_is_read_literally(where: str, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        base = f"{tmp_path}/{number}" if where == "local" else f"memory://{tmp_path}/{number}"
        directory = place(base, name)
        for given in (f"{directory}/{name}.csv", directory, f"{directory}/*.csv"):
            ((url, size),) = files.expand(given)
            assert size == 5, given
            with files.opened(url) as stream:
                assert stream.read() == b"right", given
            with files.reading(url, "--input") as stream:
                assert stream.read() == b"right", given
        hashes = [fingerprint._sha256(url) for url, _ in files.expand(directory)]
        assert hashes == ["27042f4e6eca7d0b2a7ee4026df2ecfa51d3339e6d122aa099118ecd8563bad9"], name


def test_what_is_not_there_is_a_pattern(tmp_path: Path) -> None:
    for name in ("a1b", "axb", "a[x]b"):
        place(str(tmp_path), name)
    (tmp_path / "a[x]b").rename(tmp_path / "elsewhere")
    for base in (str(tmp_path), f"file://{tmp_path}"):
        found = [url.rsplit("/", 1)[1] for url, _ in files.expand(f"{base}/a[x]b/*")]
        assert set(found) == {"a1b.csv", "axb.csv", "a[x]b.csv"}
        with pytest.raises(UserError, match=r"^--input: expected files, found none"):
            files.expand(f"{base}/b[x]b/*")


def test_the_commas_of_a_path_separate_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place(str(tmp_path), "a[1],b")
    for given in ("a[1],b", "a[1],b/*", "a[1],b/a[[]1],b.csv", str(tmp_path / "a[1],b")):
        assert cli._entries("input", [given]) == (given,)
    assert cli._entries("input", ["a[2],b/*"]) == ("a[2]", "b/*")


def test_a_link_is_followed(tmp_path: Path) -> None:
    place(str(tmp_path), "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "real.csv")
    for given in ("link", "link.csv", "link/*"):
        ((url, _),) = files.expand(os.path.join(tmp_path, given))  # noqa: PTH118
        assert Path(url).read_bytes() == b"right"


@pytest.mark.parametrize("name", ["a.txt.gz", "A.TXT.GZ", "a.txt"])
@pytest.mark.parametrize("where", ["local", "url"])
def test_a_gzip_file_is_known_by_its_content(tmp_path: Path, name: str, where: str) -> None:
    url = str(tmp_path / name) if where == "local" else f"memory://{tmp_path}/{name}"
    filesystem, path = fsspec.core.url_to_fs(url)
    for content in (gzip.compress(b"caf\xc3\xa9"), b"caf\xc3\xa9", b""):
        filesystem.pipe_file(path, content)
        if content[:1] == b"c" and name != "a.txt":
            with pytest.raises(UserError, match="damaged"), files.reading_text(url, "--input", "utf-8") as text:
                text.read()
            continue
        with files.reading_text(url, "--input", "utf-8") as text:
            assert text.read() == ("caf\xe9" if content else "")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF_8"])
def test_utf_16_is_not_read_as_utf_8(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    for mark, other in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        path.write_bytes(mark + "caf\xe9".encode(other))
        utf_8 = files.reading_text(str(path), "--input", encoding)
        with pytest.raises(UserError, match="found UTF-16: give --encoding=utf-16"), utf_8:
            pass
        for name in ("utf-16", other, other.upper().replace("-", "_")):
            with files.reading_text(str(path), "--input", name) as text:
                assert text.read() == "caf\xe9"
