"""The files of a corpus: one file, a directory, or the archives in which it was downloaded (.zip, .tar, .tar.gz, .gz).

Archives are read in memory and unpack nothing: the notes in them are on the disk once. Loads no JAX.
"""

import gzip
import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clinicalbert_jax import errors
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import safe_names
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.inputs.reading import Reading

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LINES = (".ann", ".con", ".ast", ".rel", ".pubtator", ".jsonl", ".tsv", ".conll")  # an annotation or more a line
_LARGEST = 1 << 30  # bytes of one file; no corpus has a larger one
# A word that begins with 'train' and so on, or a whole name such as NCBItestset.
_SPLITS = {
    "train": re.compile(r"(?<![a-z])train|train(ing)?[-_ ]?set"),
    "validation": re.compile(r"(?<![a-z])(dev(?![a-z])|devel|valid)|(dev|develop|development|validation)[-_ ]?set"),
    "test": re.compile(r"(?<![a-z])test|test(ing)?[-_ ]?set"),
}


@dataclass(frozen=True)
class Member:
    """One file: its name within the corpus with '/' between folders, and where it is, for messages."""

    name: str
    where: str
    data: bytes = field(repr=False)
    archive: str = ""  # the name of the archive that it is in

    @property
    def stem(self) -> str:
        """The name without folders and suffix."""
        return self.name.rsplit("/", 1)[-1].rsplit(".", 1)[0]

    @property
    def suffix(self) -> str:
        """How the name ends, in small letters, with its point."""
        last = self.name.rsplit("/", 1)[-1]
        return f".{last.rsplit('.', 1)[1].lower()}" if "." in last else ""

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that it lies in, in small letters."""
        return tuple(self.name.lower().split("/")[:-1])

    @property
    def split(self) -> str:
        """The split that its folders say, else its archive's name: see `common.SPLITS`; '' for none."""
        return _split(self.folders, (self.archive.lower(),))

    @property
    def split_of_file(self) -> str:
        """`split` of a file of many documents, whose own name counts before its archive's."""
        return _split(self.folders, (self.stem.lower(),), (self.archive.lower(),))

    def text(self, reading: Reading) -> str:
        """Its text, line ends and a byte-order mark as they stand. Raises `UserError` for another encoding."""
        try:
            return self.data.decode(reading.encoding)
        except UnicodeDecodeError as error:
            line = self.data.count(b"\n", 0, error.start) + 1
            raise UserError(
                f"{self.where}, line {line}: expected text in {reading.encoding}, found other bytes: give --encoding"
            ) from None

    def lines(self, reading: Reading) -> list[str]:
        """Its lines without line ends and byte-order mark. Only a line feed ends a line."""
        lines = self.text(reading).removeprefix("\ufeff").split("\n")
        return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def members(source: Path, ledger: Ledger) -> list[Member]:
    """The files of a corpus in the order of their names, but for dot files and `__MACOSX`.

    An archive inside a directory counts as a folder of the same content. Raises `UserError` for damaged archives, for
    names that leave the archive, and for two files of one name, which is a bad record.
    """
    found: dict[str, Member] = {}
    for member in _members(source):
        ledger["files"].found()
        first = found.setdefault(member.name, member)
        if first is member:
            ledger["files"].as_is()
            cut = member.suffix in _LINES and bool(member.data) and not member.data.endswith(b"\n")
            ledger["files"].noted("last line without a line end: is the file whole?", cut)
        else:
            ledger.bad("files", member.where, 1, f"expected one file of a name, found that of {first.where} again")
    if not found:
        raise UserError("--input: expected files of a corpus, found none")
    return sorted(found.values(), key=lambda member: member.name)


def _split(*places: Sequence[str]) -> str:
    for parts in places:
        found = {split for split, pattern in _SPLITS.items() if any(pattern.search(part) for part in parts)}
        if found:
            return found.pop() if len(found) == 1 else ""
    return ""


def _members(source: Path) -> Iterator[Member]:
    if source.is_dir():
        names = {path: path.relative_to(source).as_posix() for path in sorted(source.rglob("*"))}
        paths = [path for path, name in names.items() if path.is_file() and not _is_passed_over(name)]
        for number, path in enumerate(paths, 1):
            errors.label(path, f"{errors.labelled(str(source))}, file {number} of {len(paths)}")
            if _is_archive(path):
                yield from _archive(path)
            else:
                yield _plain(path, names[path])
    elif _is_archive(source):
        yield from _archive(source)
    else:
        yield _plain(source, source.name)


def _plain(path: Path, name: str) -> Member:
    """A file by itself, unpacked where its name ends in .gz."""
    if not name.lower().endswith(".gz"):
        return Member(name, str(path), path.read_bytes())
    try:
        with gzip.open(path) as file:
            data = file.read(_LARGEST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}): download it again") from None
    _check_size(path, len(data))
    return Member(name[: -len(".gz")], str(path), data)


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith((".zip", *_TAR))


def _is_passed_over(name: str) -> bool:
    parts = name.split("/")
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


def _archive(path: Path) -> Iterator[Member]:
    try:
        for number, member in enumerate(_zip(path) if path.name.lower().endswith(".zip") else _tar(path), 1):
            errors.label(member.where, f"{errors.labelled(str(path))}, member {number}")
            yield member
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}): download it again") from None
    except (RuntimeError, NotImplementedError):
        raise UserError(f"{path}: expected an archive without a password, found one with: unpack it first") from None


def _zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir() and not _is_passed_over(info.filename):
                _check_size(path, info.file_size)
                yield _member(path, info.filename, archive.read(info))


def _tar(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            name = info.name.removeprefix("./")
            if info.isfile() and not _is_passed_over(name):
                _check_size(path, info.size)
                file = archive.extractfile(info) or io.BytesIO()
                yield _member(path, name, file.read())


def _member(path: Path, name: str, data: bytes) -> Member:
    return Member(safe_names.check(name, path), f"{path}:{name}", data, path.name)


def _check_size(path: Path, size: int) -> None:
    if size > _LARGEST:
        raise UserError(f"{path}: expected files of at most {_LARGEST:,} bytes, found one of {size:,}: unpack it first")
