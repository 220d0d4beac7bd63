"""One directory of an object store, through fsspec: files in and out, and conditional writes. Loads no JAX.

Every failure becomes a `UserError` of one line.
"""

import contextlib
import email.utils
import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from clinicalbert_jax.errors import UserError, redacted
from clinicalbert_jax.files import safe_names

_ANSWER_WITHIN_S = 40.0  # libraries try again for minutes where an address or a login does not answer
_CONDITIONAL_WRITE_S = 20.0

_T = TypeVar("_T")


@dataclass(frozen=True)
class Found:
    """A small file in the store: its content, what names this version of it, and its age by the store's own clock."""

    content: bytes
    version: str
    age_s: float


class Bucket:
    """The directory at an fsspec URL. `url` is without credentials."""

    def __init__(self, url: str) -> None:
        self.url = redacted(url).rstrip("/")
        self._has_answered = False
        self._patience_s = _ANSWER_WITHIN_S  # what is left of it
        try:
            import fsspec

            # Listings are cached by default, and others write to the store.
            self._files, root = self._within(lambda: fsspec.core.url_to_fs(url.rstrip("/"), use_listings_cache=False))
            if hasattr(self._files, "auto_mkdir"):  # a directory, to which a store is mounted
                self._files.auto_mkdir = True
            self._root = root.rstrip("/")
        except (ImportError, ValueError) as error:
            raise UserError(
                f"{self.url}: its protocol is unknown or needs a package that is not installed ({type(error).__name__})"
            ) from None
        except UserError:
            raise
        except Exception as error:  # of a login; every store raises its own kinds
            raise self._failure("reached", error) from None

    def files(self) -> list[str]:
        """Names of the files below the directory; raises `UserError` where one would lead outside it."""

        def find() -> list[str]:
            self._files.invalidate_cache()
            return [name.removeprefix(f"{self._root}/") for name in self._files.find(self._root)]

        try:
            with self._failures("reached"):
                found = self._first_within(find)
        except FileNotFoundError:
            return []
        # Consoles make a folder as an empty object whose name ends in '/'.
        return [safe_names.check(name, f"the listing of {self.url}") for name in found if not name.endswith("/")]

    def get(self, name: str, local: Path) -> None:
        """Copy one file to `local / name`."""
        path = safe_names.without_links(local, safe_names.check(name, self.url))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._failures("reached"):
                self._first_within(lambda: self._files.get_file(f"{self._root}/{name}", str(path)))
        except FileNotFoundError:
            raise UserError(f"expected a file at {self.url}/{name}, found none") from None

    def read(self, name: str) -> bytes:
        """The content of one small file."""
        try:
            with self._failures("reached"):
                return self._first_within(lambda: self._files.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            raise UserError(f"expected a file at {self.url}/{name}, found none") from None

    def put(self, name: str, local: Path) -> None:
        """Send one file. Raises `FileNotFoundError` where it is no longer there."""
        with self._failures("written"):
            try:
                self._files.put_file(str(local / name), f"{self._root}/{name}")
            except FileNotFoundError:
                if not (local / name).exists():
                    raise
                raise self._refusal("written", "no such bucket") from None

    def write(self, name: str, content: bytes) -> None:
        """Send a small file's content."""
        with self._failures("written"):
            try:
                self._files.pipe_file(f"{self._root}/{name}", content)
            except FileNotFoundError:
                raise self._refusal("written", "no such bucket") from None

    def remove(self, name: str) -> None:
        """Remove a file, or a directory and all below it. One by one: `rm` takes brackets in a path for a pattern."""
        with self._failures("written"), contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            for path in self._files.find(f"{self._root}/{name}"):
                self._files.rm_file(path)

    def look(self, name: str) -> Found | None:
        """A small file with its version, None where there is none."""
        try:
            with self._failures("reached"):
                return self._first_within(lambda: self._run(_LOOKS, name))
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes, version: str | None) -> str | None:
        """Write a small file if its version is `version` (None: if there is no such file).

        Returns its new version, None where it has another one. A store that cannot do this writes in any case.
        """
        with self._failures("written"):
            try:
                return self._first_within(lambda: self._run(_REPLACES, name, content, version))
            except Exception as error:
                code = _code(error)
                if isinstance(error, FileExistsError) or code in _REFUSED_CONDITION:
                    return None
                if isinstance(error, NotImplementedError) or code == "NotImplemented":
                    self._files.pipe_file(f"{self._root}/{name}", content)
                    return self._run(_LOOKS, name).version
                if isinstance(error, FileNotFoundError):
                    if version is not None:
                        return None
                    raise self._refusal("written", "no such bucket") from None
                raise

    def _run(self, by_protocol: dict[str, Callable[..., Any]], name: str, *arguments: Any) -> Any:
        from fsspec import asyn

        protocols = self._files.protocol
        first = protocols if isinstance(protocols, str) else protocols[0]
        path = f"{self._root}/{name}"
        if first not in by_protocol:
            return by_protocol[""](self._files, path, *arguments)
        bucket, key, *_ = self._files.split_path(path)
        work = by_protocol[first](self._files, bucket, key, *arguments)
        return asyn.sync(self._files.loop, lambda: work, timeout=_CONDITIONAL_WRITE_S)

    def _first_within(self, work: Callable[[], _T]) -> _T:
        """What `work` returns; login and first answer of the store may take `_ANSWER_WITHIN_S` in all."""
        if self._has_answered:
            return work()
        try:
            result = self._within(work)
        except FileNotFoundError:
            self._has_answered = True
            raise
        self._has_answered = True
        return result

    def _within(self, work: Callable[[], _T]) -> _T:
        started = time.monotonic()
        future: Future[_T] = Future()

        def ask() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            return future.result(self._patience_s)
        except TimeoutError:
            if not future.done():
                raise UserError(
                    f"{self.url} has not answered within {_ANSWER_WITHIN_S:.0f} s: check address, network and "
                    "credentials"
                ) from None
            raise
        finally:
            self._patience_s -= time.monotonic() - started

    @contextlib.contextmanager
    def _failures(self, verb: str) -> Iterator[None]:
        """Turn all but `FileNotFoundError` into a `UserError`: every store raises its own kinds."""
        try:
            yield
        except (FileNotFoundError, UserError):
            raise
        except Exception as error:
            raise self._failure(verb, error) from None

    def _failure(self, verb: str, error: Exception) -> UserError:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return UserError(f"no space left to copy {self.url}: free space, or set XDG_CACHE_HOME to a larger disk")
        return self._refusal(verb, type(error).__name__)

    def _refusal(self, verb: str, found: str) -> UserError:
        return UserError(f"{self.url} cannot be {verb} ({found}): check address, network and credentials")


async def _look_s3(files: Any, bucket: str, key: str) -> Found:
    answer = await files._call_s3("get_object", Bucket=bucket, Key=key)
    async with answer["Body"] as body:
        content = await body.read()
    now = _date(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return Found(content, answer["ETag"], (now - answer["LastModified"]).total_seconds())


async def _replace_s3(files: Any, bucket: str, key: str, content: bytes, version: str | None) -> str:
    condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
    answer = await files._call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)
    return answer["ETag"]


async def _look_gcs(files: Any, bucket: str, key: str) -> Found:
    _, headers, _, body = await files._request("GET", "b/{}/o/{}", bucket, key)
    known = json.loads(body)
    _, content = await files._call("GET", "b/{}/o/{}", bucket, key, alt="media", generation=known["generation"])
    age = _date(headers["Date"]) - datetime.fromisoformat(known["updated"])
    return Found(content, known["generation"], age.total_seconds())


async def _replace_gcs(files: Any, bucket: str, key: str, content: bytes, version: str | None) -> str:
    described = json.dumps({"name": key, "contentType": "application/json"}).encode()
    parts = (b"Content-Type: application/json; charset=UTF-8", described), (b"Content-Type: application/json", content)
    answer = await files._call(
        "POST",
        f"{files._location}/upload/storage/v1/b/{bucket}/o",
        uploadType="multipart",
        ifGenerationMatch=version or "0",
        headers={"Content-Type": 'multipart/related; boundary="==part=="'},
        data=b"".join(b"--==part==\n%s\n\n%s\n" % part for part in parts) + b"--==part==--",
        json_out=True,
    )
    return answer["generation"]


def _look_elsewhere(files: Any, path: str) -> Found:
    content = files.cat_file(path)
    return Found(content, content.hex(), 0.0)


def _replace_elsewhere(files: Any, path: str, content: bytes, version: str | None) -> str:
    files.pipe_file(path, content)
    return content.hex()


_LOOKS: dict[str, Callable[..., Any]] = {"s3": _look_s3, "gs": _look_gcs, "": _look_elsewhere}
_REFUSED_CONDITION = ("PreconditionFailed", "ConditionalRequestConflict")  # the second: written at the same moment
_REPLACES: dict[str, Callable[..., Any]] = {"s3": _replace_s3, "gs": _replace_gcs, "": _replace_elsewhere}


def _code(error: BaseException) -> str:
    """S3's name for an error, which s3fs passes on for some of them only."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code", "")


def _date(header: str) -> datetime:
    return email.utils.parsedate_to_datetime(header)
