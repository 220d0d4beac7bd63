"""Files of notes, local or behind an fsspec URL: finding them, and reading their bytes.

Whatever goes wrong becomes one line. pyarrow's and the stores' own messages may quote a note, so none is passed on, and
names of files may be those of patients, so that a message has the `label` of a file: its number in --input.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from clinicalbert_jax import errors
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns

_GZIP = b"\x1f\x8b"
_OF_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def is_url(given: str) -> bool:
    """Whether fsspec is to open it."""
    return "://" in given


def label_of(entry: int, count: int) -> str:
    """How messages call an entry of --input."""
    return f"--input entry {entry} of {count}" if count > 1 else "--input"


def is_file(given: str) -> bool:
    """Whether `given` names one file, rather than a directory or a pattern."""
    if not is_url(given):
        return patterns.expanded(given).is_file()
    import fsspec

    try:
        filesystem, name = fsspec.core.url_to_fs(given)
        return bool(filesystem.isfile(name))
    except Exception:  # every store raises its own kinds; `expand` says what is wrong
        return False


def expand(given: str, label: str = "--input") -> list[tuple[str, int]]:
    """A path, directory, glob or URL as (file, size) in the order of names."""
    found: list[tuple[str, int]]
    if is_url(given):
        import fsspec

        try:
            filesystem, name = fsspec.core.url_to_fs(given)
            protocol = given.split("://", 1)[0]
            if patterns.is_pattern(name) and not filesystem.exists(name):
                entries = filesystem.glob(patterns.literal_start(name, filesystem.exists), detail=True)
            elif filesystem.isdir(name):
                entries = filesystem.find(name, detail=True)
            else:
                entries = {name: filesystem.info(name)}
        except ImportError as error:
            raise UserError(f"{label} needs the package {error.name or 'for its protocol'}") from None
        except FileNotFoundError:
            raise UserError(f"{label}: expected a file or directory, found none") from None
        except Exception as error:  # every store raises its own kinds
            raise UserError(f"{label} cannot be reached ({type(error).__name__})") from None
        found = sorted(
            (f"{protocol}://{name}" if "://" not in name else name, int(entry.get("size") or 0))
            for name, entry in entries.items()
            if entry.get("type", "file") == "file"
        )
    else:
        path = patterns.expanded(given)
        if path.is_file():
            files: Iterable[Path] = [path]
        elif path.is_dir():
            files = path.rglob("*")
        elif patterns.is_pattern(given):
            files = patterns.matching(given)
        else:
            raise UserError(f"{label}: expected a file or directory, found none")
        found = sorted((str(file), file.stat().st_size) for file in files if file.is_file())
    found = [(file, size) for file, size in found if not PurePosixPath(file).name.startswith((".", "_"))]
    if not found:
        raise UserError(f"{label}: expected files, found none (names that begin with . or _ do not count)")
    for file, _ in found:
        errors.label(file, f"a file of {label}")
    return found


@contextmanager
def reading(url: str, label: str) -> Iterator[IO[bytes]]:
    """A file's bytes, gunzipped where its name or its first bytes say so; what goes wrong becomes one line."""
    try:
        with opened(url) as raw:
            stream = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
            if url.lower().endswith(".gz") or stream.peek(2)[:2] == _GZIP:
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    yield io.BufferedReader(unpacked, 1 << 20)  # type: ignore[arg-type, type-var]
            else:
                yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise UserError(f"{label}: expected a whole gzip file, found a damaged one: fetch it again") from None
    except FileNotFoundError:
        raise UserError(f"{label}: expected a file, found none") from None
    except OSError as error:
        raise UserError(f"{label} cannot be read ({type(error).__name__})") from None


@contextmanager
def reading_text(url: str, label: str, encoding: str, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """A file's text. Bytes that are none of the encoding's become U+FFFD; a byte order mark is passed over.

    Raises `UserError` for UTF-8 that begins with the byte order mark of UTF-16.
    """
    codec = codecs.lookup(encoding).name
    with reading(url, label) as stream:
        if stream.peek(2)[:2] in _OF_UTF_16:  # type: ignore[attr-defined]
            if codec == "utf-8":
                raise UserError(f"{label}: expected text in {encoding}, found UTF-16: give --encoding=utf-16")
            if codec in ("utf-16-le", "utf-16-be"):
                stream.read(2)
        encoding = "utf-8-sig" if codec == "utf-8" else encoding
        with io.TextIOWrapper(stream, encoding, errors="replace", newline=newline) as text:
            yield text


def opened(url: str) -> Any:
    """A file's bytes as they are; raises what the store raises."""
    if not is_url(url):
        return Path(url).open("rb")
    import fsspec

    filesystem, name = fsspec.core.url_to_fs(url)  # not fsspec.open, which takes brackets for a pattern
    return filesystem.open(name, "rb")


@contextmanager
def parquet(url: str, label: str) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`."""
    import pyarrow
    import pyarrow.parquet

    try:
        with opened(url) as raw, pyarrow.parquet.ParquetFile(raw) as file:
            yield file
    except UnicodeDecodeError:
        raise UserError(f"{label}: expected text in UTF-8, found other bytes: write the Parquet file again") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{label} cannot be read as Parquet ({type(error).__name__})") from None
