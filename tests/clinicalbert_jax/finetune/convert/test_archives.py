"""A corpus is read alike from a folder and from the archives in which it was downloaded."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import archives
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.inputs.reading import Reading

pytestmark = pytest.mark.fast

FILES = {"train/a.txt": b"one", "train/a.ann": b"", "test/b.txt": b"two", "readme": b"three"}
PASSED_OVER = {"__MACOSX/train/._a.txt": b"x", "train/.DS_Store": b"x", ".hidden/a.txt": b"x"}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("train") if "train/a.txt" in files else None
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], prefix: str = "./") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def found(source: Path) -> dict[str, bytes]:
    return {member.name: member.data for member in archives.members(source, Ledger())}


def test_folder_and_archives_hold_the_same_files(tmp_path: Path) -> None:
    every = FILES | PASSED_OVER
    assert found(folder(tmp_path / "folder", every)) == FILES
    assert found(zipped(tmp_path / "a.zip", every)) == FILES
    assert found(tarred(tmp_path / "a.tar.gz", every)) == FILES
    both = tmp_path / "both"
    both.mkdir()
    zipped(both / "training.zip", {"a.txt": b"one"})
    tarred(both / "test_data.tgz", {"b.txt": b"two"})
    assert {member.name: member.split for member in archives.members(both, Ledger())} == {
        "a.txt": "train",
        "b.txt": "test",
    }


@pytest.mark.parametrize("name", ["../out.txt", "/etc/passwd", "a/../../b", "a\\b", "a\nb"])
def test_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    for source in (zipped(tmp_path / "a.zip", {name: b"x"}), tarred(tmp_path / "a.tar.gz", {name: b"x"}, "")):
        with pytest.raises(UserError, match="expected names of files in its own directory") as caught:
            archives.members(source, Ledger())
        assert name not in str(caught.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    folder(tmp_path, {"train/a.txt": b"one"})
    zipped(tmp_path / "corpus.zip", {"train/a.txt": b"one"})
    with pytest.raises(UserError, match=r"a\.txt, line 1: expected one file of a name, found that of .*a\.txt again"):
        archives.members(tmp_path, Ledger())
    ledger = Ledger(Reading("skip"))
    assert len(archives.members(tmp_path, ledger)) == 1
    assert ledger["files"].reasons == {"bad record": 1}


@pytest.mark.parametrize(
    ("name", "split", "of_file"),
    [
        ("train/a.txt", "train", "train"),
        ("training_20180910/a.txt", "train", "train"),
        ("latest/device/restrained.txt", "", ""),
        ("notes/test_7.txt", "", "test"),
        ("CDR_DevelopmentSet.PubTator.txt", "", "validation"),
        ("NCBItestset_corpus.txt", "", "test"),
        ("train/test/a.txt", "", ""),
        ("dev/b.txt", "validation", "validation"),
    ],
)
def test_the_split_that_a_name_says(name: str, split: str, of_file: str) -> None:
    member = archives.Member(name, name, b"")
    assert (member.split, member.split_of_file) == (split, of_file)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_truncated_archive_is_refused_at_any_length(tmp_path: Path, kind: str) -> None:
    files = {f"a{number}.txt": bytes(range(256)) * 8 for number in range(3)}
    path = (zipped if kind == "zip" else tarred)(tmp_path / f"whole.{kind}", files)
    data = path.read_bytes()
    for length in (0, 1, 10, len(data) // 2, len(data) - 30):
        part = tmp_path / f"part.{kind}"
        part.write_bytes(data[:length])
        with pytest.raises(UserError, match="damaged"):
            archives.members(part, Ledger())


def test_a_last_line_without_its_end_is_noted(tmp_path: Path) -> None:
    ledger = Ledger()
    archives.members(
        folder(tmp_path, {"a.ann": b"T1\tX 0 1\ta", "b.ann": b"", "c.ann": b"T1\n", "a.txt": b"a"}), ledger
    )
    assert ledger["files"].notes == {"last line without a line end: is the file whole?": 1}


def test_links_in_an_archive_are_no_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("a.txt"))
    assert found(tmp_path / "a.tar") == {"a.txt": b""}


def test_text_of_another_encoding_is_said_with_its_line(tmp_path: Path) -> None:
    (member,) = archives.members(folder(tmp_path, {"a.txt": b"one\nn\xe9e\n"}), Ledger())
    with pytest.raises(UserError, match=r"a\.txt, line 2: expected text in utf-8"):
        member.text(Reading())
    assert member.text(Reading(encoding="latin-1")) == "one\nnée\n"
