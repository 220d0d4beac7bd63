"""A lease on a run's path in a bucket: one run at a time holds it, and renews it as long as it lives. Loads no JAX.

The lease is a small file that is only ever written on the condition that it is still the version last seen. A run that
was killed leaves it behind: it is taken over at once by the same run started again on the same machine, and by any
other after two minutes without renewal.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs.bucket import Bucket, Found

FILE_NAME = "lease.json"
TOKEN_FILE = ".lease_token"  # beside the local copy of the run: whoever has it is the same run

_RENEW_EVERY_S = 10.0
_SILENCE_S = 120.0  # after which a lease is taken over
_LOOK_EVERY_S = 2.0


_held: set["Lease"] = set()  # by this process


class Lease:
    """A lease that is held. `check` raises `UserError` where it no longer is."""

    def __init__(self, bucket: Bucket, token: str) -> None:
        self._bucket, self._token = bucket, token
        self._start = secrets.token_hex(8)  # of this process alone: a token outlives it
        self._writing = threading.Lock()
        self._version: str | None = None
        self._renewed = -float("inf")
        self._is_lost = False
        self._ended = threading.Event()

    def check(self) -> None:
        """Return if nobody else can hold the lease now; raises `UserError` otherwise, also where that is unknown."""
        if time.monotonic() - self._renewed > _SILENCE_S / 2:
            self._renew()
        self.check_not_lost()

    def check_not_lost(self) -> None:
        """Raise `UserError` where another run is known to have taken the lease."""
        if self._is_lost:
            raise UserError(
                f"--workdir: another run has taken over {self._bucket.url}, which this one could not reach for two "
                "minutes or which was started again elsewhere: this one has stopped and changes nothing there"
            )

    def acquire(self) -> None:
        """Take the lease, if need be after waiting; raises `UserError` where another run is alive."""
        while self._version is None:
            found = self._bucket.look(FILE_NAME)
            holder = _document(found)
            ours = holder.get("token") == self._token and holder.get("host") == socket.gethostname()
            if found and not ours and not holder.get("released"):
                self._wait_for_silence(found, holder)
            self._version = self._bucket.replace(FILE_NAME, self._content(), found.version if found else None)
        self._renewed = time.monotonic()
        if (version := self._bucket.replace(FILE_NAME, self._content(), None)) is not None:
            self._version = version
            print(
                f"warning: {self._bucket.url} is in a store without conditional writes: make sure that no other run "
                "uses it",
                file=sys.stderr,
            )
        threading.Thread(target=self._keep_renewing, daemon=True, name="lease").start()

    def release(self) -> None:
        """Let the next run have the lease at once."""
        self._ended.set()
        with self._writing, contextlib.suppress(UserError):  # it is silent from now on
            if not self._is_lost:
                self._bucket.replace(FILE_NAME, self._content(released=True), self._version)
        self._is_lost = True

    def _wait_for_silence(self, found: Found, holder: dict[str, Any]) -> None:
        """Return when the lease was not renewed for two minutes, or is gone; raises `UserError` once it is renewed."""
        seen, has_said = time.monotonic(), False
        named = f"process {holder.get('pid')} on host {ascii(holder.get('host'))[1:-1]}"
        while (silence := found.age_s + time.monotonic() - seen) < _SILENCE_S:
            time.sleep(_LOOK_EVERY_S)
            if not has_said and time.monotonic() - seen > 2 * _RENEW_EVERY_S:
                print(
                    f"waiting for {self._bucket.url}: {named} has not ended its run, and is silent; taken over in "
                    f"{_SILENCE_S - silence:.0f} s",
                    file=sys.stderr,
                )
                has_said = True
            now = self._bucket.look(FILE_NAME)
            if now is None or _document(now).get("released"):
                return
            if now.version != found.version:
                raise UserError(
                    f"--workdir: {self._bucket.url} is in use by another run ({named}): wait until it ends, or give "
                    "another"
                )

    def _keep_renewing(self) -> None:
        while not self._ended.wait(_RENEW_EVERY_S) and not self._is_lost:
            with contextlib.suppress(UserError):  # not reachable: `check` says so where it matters
                self._renew()

    def _renew(self) -> None:
        with self._writing:
            if self._is_lost or self._ended.is_set():
                return
            asked = time.monotonic()
            version = self._bucket.replace(FILE_NAME, self._content(), self._version)
            if version is None:  # of another run, or of our own write whose answer was lost
                found = self._bucket.look(FILE_NAME)
                if found and _document(found).get("start") != self._start:
                    self._is_lost = True
                    return
                version = found.version if found else self._bucket.replace(FILE_NAME, self._content(), None)
            if version is not None:
                self._version, self._renewed = version, asked

    def _content(self, released: bool = False) -> bytes:
        document = {
            "token": self._token,
            "start": self._start,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "released": released,
            "write": secrets.token_hex(8),  # S3 names a version by its content
        }
        return json.dumps(document).encode()


@contextlib.contextmanager
def held(bucket: Bucket, local: Path) -> Iterator[Lease]:
    """Hold the lease of the run in `bucket`, whose local copy in `local` this process alone uses; released at the end.

    Raises `UserError` where another run holds it and is alive.
    """
    path = local / TOKEN_FILE
    if not path.exists():
        partial = path.with_name(f"{TOKEN_FILE}.partial")
        partial.write_text(secrets.token_hex(16), encoding="utf-8")
        partial.replace(path)
    lease = Lease(bucket, path.read_text(encoding="utf-8"))
    lease.acquire()
    _held.add(lease)
    try:
        yield lease
    finally:
        lease.release()
        _held.discard(lease)


def release_all(within_s: float) -> None:
    """Release what this process holds, as it is about to end without leaving its contexts; wait so long at most."""
    threads = [threading.Thread(target=lease.release, daemon=True) for lease in tuple(_held)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(within_s)


def _document(found: Found | None) -> dict[str, Any]:
    try:
        document = json.loads(found.content) if found else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
