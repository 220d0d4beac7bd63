"""The fingerprint of a preparation: equal for equal content, whatever else a file system or a store says."""

import os
import shutil
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from clinicalbert_jax.errors import UserError
from data_prep.config import PrepConfig, VocabularyConfig
from data_prep.reading.sources import SourceConfig
from data_prep.sharding import fingerprint
from data_prep.wordpiece import tokenizer

pytestmark = pytest.mark.fast
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]


def asked(*inputs: str | Path, vocabulary: Path | None = None, **options: object) -> fingerprint.Fingerprint:
    config = PrepConfig(
        source=SourceConfig(input=tuple(map(str, inputs))),
        vocabulary=VocabularyConfig(vocab_file=str(vocabulary)) if vocabulary else VocabularyConfig(train_vocab=True),
        **options,  # type: ignore[arg-type]
    )
    given = tokenizer.load(str(vocabulary), None) if vocabulary else None
    return fingerprint.of(config, fingerprint.states_of(config.source.input), given)


def test_the_content_alone_counts(tmp_path: Path) -> None:
    notes, tests, vocabulary = tmp_path / "notes.csv", tmp_path / "test.txt", tmp_path / "vocab.txt"
    notes.write_text("TEXT")
    tests.write_text("test")
    vocabulary.write_text("\n".join(VOCABULARY) + "\n")

    def now() -> fingerprint.Fingerprint:
        return asked(notes, vocabulary=vocabulary, exclude_text=(str(tests),))

    before = now()
    for path in (notes, tests, vocabulary):  # other times and inodes, the same content
        shutil.copy(path, tmp_path / "copy")
        (tmp_path / "copy").replace(path)
    os.utime(notes, (0, 0))
    assert now() == before
    for path, content, said in (
        (notes, "TEXt", "the content of --input has changed (entry 1 of 1)"),
        (tests, "tesT", "the content of --exclude_text has changed (entry 1 of 1)"),
        (vocabulary, "\n".join([*VOCABULARY[:-1], "c"]), "the content of --vocab_file has changed"),
    ):
        old, status = path.read_text(), path.stat()
        path.write_text(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert fingerprint.differences(before, now()) == said
        path.write_text(old)
    assert now() == before


def test_an_object_of_a_store_is_known_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    info, versions, reads = MemoryFileSystem.info, {"ETag": '"1"'}, []
    monkeypatch.setattr(MemoryFileSystem, "info", lambda self, path: info(self, path) | versions)
    opened = MemoryFileSystem._open
    monkeypatch.setattr(MemoryFileSystem, "_open", lambda *a, **k: (reads.append(a), opened(*a, **k))[1])
    store.pipe("/fingerprint/notes.csv", b"TEXT")
    reads.clear()
    urls = ("memory://fingerprint/notes.csv",)
    before, states = asked(*urls), fingerprint.states_of(urls)
    assert not reads  # its version is known: nothing is fetched
    fingerprint.require_unchanged(urls, states)
    versions["ETag"] = '"2"'
    assert asked(*urls)["input_sha256"] != before["input_sha256"]
    with pytest.raises(UserError, match=r"--input: a file of entry 1 of 1 changed while it was read"):
        fingerprint.require_unchanged(urls, states)
    versions["ETag"] = 'W/"2"'  # weak: two contents may have it
    weak = asked(*urls)
    store.pipe("/fingerprint/notes.csv", b"TEXt")
    assert asked(*urls)["input_sha256"] != weak["input_sha256"]
    assert reads


def test_no_credentials_and_no_text_of_options_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "states_of", lambda inputs: [{} for _ in inputs])
    one = asked("s3://key:Zyxquarrel@host/notes.csv?X-Amz-Signature=Zyxquarrel", "gs://bucket/p@x.csv")
    assert "input" not in one, "a name of a file may be a patient's"
    other = one | {"categories": ["Ms Zyxquarrel's clinic"], "seed": 3, "name": "x y"}
    assert fingerprint.differences(one, other) == "--categories is another; --name is another; --seed was 0, is 3"
    assert fingerprint.differences({}, one).count("--") > 15  # of a version that knew other settings
