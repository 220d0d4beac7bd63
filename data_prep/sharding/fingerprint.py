"""What the shards of a dataset depend on: every setting, and the content of every input."""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec

import clinicalbert_jax
from clinicalbert_jax.data.manifest import sha256_of
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from data_prep.config import PrepConfig
from data_prep.reading import files, selection
from data_prep.reading.selection import SelectionConfig
from data_prep.wordpiece.tokenizer import Tokenizer

Fingerprint = dict[str, Any]  # by name: a setting, or the SHA-256 of a content
States = list[dict[str, tuple]]  # for each --input: its files, and what changes whenever a file does

# The names under which stores give the version of an object, as fsspec passes them on.
_VERSIONS = ("generation", "VersionId", "version_id", "ETag", "etag", "md5Hash", "content_md5")


def of(config: PrepConfig, states: States, given: Tokenizer | None) -> Fingerprint:
    """Everything that the shards depend on, by name; `given` is the tokenizer unless one is to be trained."""
    named = config.options() | {
        "project_version": clinicalbert_jax.__version__,
        "input_sha256": [content_sha256(of_files) for of_files in states],
        "exclude_text_sha256": [sha256_of(patterns.expanded(path)) for path in config.exclude_text],
        "exclude_patients": bool(config.selection.exclude_patients),
        "vocab_file_sha256": given and hashlib.sha256(repr(given.settings).encode()).hexdigest(),
    }
    return json.loads(json.dumps(named))


def private(config: SelectionConfig, salt: bytes) -> Fingerprint:
    """What else the shards depend on and no dataset may hold: the salt and who is excluded, as hashes keyed by it."""
    contents = {"salt_file": "", "exclude_patients": "\n".join(sorted(selection.excluded_patients(config)))}
    return {
        f"{flag}_sha256": hashlib.blake2b(content.encode("utf-8", "surrogatepass"), key=salt[:64]).hexdigest()
        for flag, content in contents.items()
    }


def states_of(inputs: Sequence[str]) -> States:
    """The files behind each `--input` as they are now. Cheap: reads no content."""
    for given in filter(files.is_url, inputs):
        with contextlib.suppress(Exception):  # said in one line by `expand`
            fsspec.core.url_to_fs(given)[0].invalidate_cache()  # or it answers with the listing of before
    labels = [files.label_of(entry, len(inputs)) for entry in range(1, len(inputs) + 1)]
    return [{url: _state(url) for url, _ in files.expand(*one)} for one in zip(inputs, labels, strict=True)]


def require_unchanged(inputs: Sequence[str], before: States) -> None:
    """Raise `UserError` where a file has changed since `before`, has come or has gone."""
    for number, (now, then) in enumerate(zip(states_of(inputs), before, strict=True), 1):
        if now != then:
            raise UserError(
                f"--input: a file of entry {number} of {len(inputs)} changed while it was read: run the command again "
                "when nothing writes there"
            )


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What differs between two fingerprints, for a message: options by their values, content only by its name."""
    named = []
    for name in sorted({*there, *asked}):
        old, new = there.get(name), asked.get(name)
        if old == new:
            continue
        option = name.removesuffix("_sha256")
        if option == name:
            plain = all(re.fullmatch(r"[\w.-]{1,20}", str(value)) for value in (old, new))
            named.append(f"--{name} was {old}, is {new}" if plain else f"--{name} is another")
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            changed = [number for number, (one, other) in enumerate(zip(old, new, strict=True), 1) if one != other]
            listed = ", ".join(map(str, changed[:5])) + (", ..." if len(changed) > 5 else "")
            named.append(f"the content of --{option} has changed (entry {listed} of {len(new)})")
        else:
            named.append(f"the content of --{option} has changed")
    return "; ".join(named).replace("--project_version", "the version of clinicalbert_jax")


def content_sha256(of_files: Mapping[str, tuple]) -> str:
    """One hash of the names and contents of all files: for an object of a store, of its version there."""
    whole = hashlib.sha256()
    for url, state in of_files.items():
        version = state[1] if state[0] in _VERSIONS else _sha256(url)
        whole.update(f"{len(url)} {url} {version}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _sha256(url: str) -> str:
    if not files.is_url(url):
        return sha256_of(Path(url))
    try:
        with files.opened(url) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except Exception as error:  # every store raises its own kinds
        raise UserError(f"--input: a URL cannot be read ({type(error).__name__})") from None


def _state(url: str) -> tuple:
    """For an object of a store its version, and for a file its size, inode and times: a changed file has another."""
    if not files.is_url(url):
        status = Path(url).stat()
        return "file", status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
    try:
        filesystem, name = fsspec.core.url_to_fs(url)
        details = filesystem.info(name)
    except Exception as error:
        raise UserError(f"--input: a URL cannot be reached ({type(error).__name__})") from None
    for name in _VERSIONS:
        if details.get(name) and not str(details[name]).startswith("W/"):  # a weak ETag: not byte for byte
            return name, str(details[name])
    return "url", str(sorted((name, str(value)) for name, value in details.items()))
