"""Names from documents lead nowhere else: hostile manifests, indexes, listings, checksums, and links in our cache."""

import json
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import safe_names
from clinicalbert_jax.finetune.convert import archives
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.pretrained import huggingface, loading
from clinicalbert_jax.runs import checksums, object_store, workdir
from data_prep import verify
from tests import toy_dataset

pytestmark = pytest.mark.fast

HOSTILE = [
    "../outside/bait",
    "..",
    ".",
    "",
    "{outside}/bait",
    "below/../../outside/bait",
    "below//bait",
    "./bait",
    "bait/",
    "..\\outside\\bait",
    "below\\bait",
    "bait\0",
    "bait\nerror: all is well",
]


@given(st.text(st.sampled_from("./\\ab\0\n~"), max_size=9) | st.text())
def test_a_safe_name_stays_below_its_directory(name: str) -> None:
    directory = Path("/data/notes")
    inside = Path(str(directory / name.replace("\0", ""))).absolute()
    if safe_names.is_safe(name):
        assert ".." not in inside.parts
        assert inside.is_relative_to(directory)
        assert inside != directory
        assert len(inside.parts) == 3 + name.count("/") + 1


@pytest.mark.parametrize("name", ["a", "a.b", "checkpoints/6/params/d/ab..c", "..a", "~", "Fieber-ä.tfrecord", "a b"])
def test_ordinary_names_are_safe(name: str) -> None:
    assert safe_names.check(name, "x") == name


class HostileStore(MemoryFileSystem):
    """A store whose listing of any directory holds one more name than it has files."""

    protocol = "hostile"
    name = ""

    def find(self, path: str, *_: Any, **__: Any) -> list[str]:
        return [f"{path}/checkpoints/3/checksums.json", f"{path}/{self.name}"]

    def get_file(self, rpath: str, lpath: str, *_: Any, **__: Any) -> None:
        Path(lpath).write_bytes(b"from the store")


fsspec.register_implementation("hostile", HostileStore, clobber=True)


def manifest_with(directory: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    directory.parent.mkdir(exist_ok=True)
    toy_dataset.write(directory, num_train=6, num_other=2, shards=1)
    document = checksummed_json.read(directory / "manifest.json")
    change(document)
    checksummed_json.write(directory / "manifest.json", document)
    return directory


def read_as_dataset(directory: Path) -> None:
    list(verify.faults(directory, Manifest.load(directory)))
    Dataset(directory, "train").train_batch(0, 0, 2, [0, 1])  # type: ignore[arg-type]


def shard_of_a_manifest(given: Path, name: str) -> None:
    read_as_dataset(manifest_with(given, lambda found: found["splits"]["train"]["shards"][0].update(file=name)))


def file_of_a_manifest(given: Path, name: str) -> None:
    read_as_dataset(manifest_with(given, lambda found: found["files"].update({name: "0" * 64})))


def shard_of_a_remote_dataset(given: Path, name: str) -> None:
    manifest_with(given, lambda found: found["splits"]["test"]["shards"][0].update(file=name))
    object_store.dataset(f"file://{given}")


def file_of_a_remote_dataset(given: Path, name: str) -> None:
    manifest_with(given, lambda found: found["files"].update({name: "0" * 64}))
    object_store.dataset(f"file://{given}")


def shard_of_a_runs_manifest(given: Path, name: str) -> None:
    manifest_with(given / "data", lambda found: found["splits"]["train"]["shards"][0].update(file=name))
    run = given / "run" / "checkpoints" / "3" / "run"  # a checkpoint's copy of it
    run.mkdir(parents=True)
    (given / "data" / "manifest.json").rename(run / "manifest.json")
    workdir.manifest_of(given / "run")


def shard_of_an_index(given: Path, name: str, stem: str = "model.safetensors") -> None:
    given.mkdir()
    document = {"weight_map": {"bert.pooler.dense.bias": "bait", "bert.pooler.dense.weight": name}}
    (given / f"{stem}.index.json").write_text(json.dumps(document))
    huggingface.read_tensors(given)


def shard_of_a_pytorch_index(given: Path, name: str) -> None:
    shard_of_an_index(given, name, "pytorch_model.bin")


def member_of_a_zip(given: Path, name: str) -> None:
    given.mkdir()
    with zipfile.ZipFile(given / "corpus.zip", "w") as archive:
        info = zipfile.ZipInfo("member")
        info.filename = name  # as it is: the constructor ends a name at a null
        archive.writestr(info, "from the archive")
    archives.members(given / "corpus.zip", Ledger())


def member_of_a_tar(given: Path, name: str) -> None:
    given.mkdir()
    with tarfile.open(given / "corpus.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    archives.members(given / "corpus.tar", Ledger())


def listing_of_a_store(given: Path, name: str) -> None:
    HostileStore.name = name
    object_store.run("hostile://bucket/run")


def checksums_of_a_checkpoint(given: Path, name: str) -> None:
    given.mkdir()
    (given / "params").write_text("whole")
    checksums.publish(given)
    sums = json.loads((given / "checksums.json").read_text())
    (given / "checksums.json").write_text(json.dumps(sums | {name: [5, 0]}))
    if reason := checksums.damage(given):
        raise UserError(reason)


DOCUMENTS = [
    shard_of_a_manifest,
    file_of_a_manifest,
    shard_of_a_runs_manifest,
    shard_of_a_remote_dataset,
    file_of_a_remote_dataset,
    shard_of_an_index,
    shard_of_a_pytorch_index,
    listing_of_a_store,
    checksums_of_a_checkpoint,
    member_of_a_zip,
    member_of_a_tar,
]
# Those that lead nowhere else: consoles make folders of such names in a store, and archives are read without them.
HARMLESS = {
    listing_of_a_store: ("bait/", ""),
    member_of_a_zip: ("bait/", "", ".", "./bait", "bait\0", "..\\outside\\bait"),
    member_of_a_tar: ("bait/", "", ".", "./bait", "bait\0", "..\\outside\\bait"),
}
_opened: list[str] | None = None


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open":
        _opened.append(str(arguments[0]))


sys.addaudithook(_note_opened)  # cannot be taken back: does nothing outside `opened`


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files opened while a test runs."""
    global _opened
    _opened = []
    yield _opened
    _opened = None


def state_of(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("names", [HOSTILE[:2], pytest.param(HOSTILE, marks=pytest.mark.soak)], ids=["few", "all"])
def test_hostile_documents_reach_nothing_outside(
    tmp_path: Path, names: list[str], opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    outside = toy_dataset.write(tmp_path / "outside", num_train=6, num_other=2, shards=1)
    shard = outside / "toy-train.tfrecord-00000-of-00001"
    for suffix in ("", ".index"):  # what a reader that follows the name could read
        shutil.copyfile(f"{shard}{suffix}", f"{outside}/bait{suffix}")
    before, refused = state_of(outside), 0
    opened.clear()
    for document in DOCUMENTS:
        for number, name in enumerate(names):
            if name in HARMLESS.get(document, ()):
                continue
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{document.__name__}-{number}"))
            with pytest.raises(UserError, match=r"names of files in its own directory|names a file outside") as caught:
                document(tmp_path / f"{document.__name__}-{number}", name.format(outside=outside))
            assert "\n" not in str(caught.value)
            assert "outside/bait" not in str(caught.value)
            refused += 1
    assert not [path for path in opened if Path(path).resolve().is_relative_to(outside)]
    assert state_of(outside) == before
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} <= {
        "outside",
        "cache",
        *(document.__name__ for document in DOCUMENTS),
    }
    with capsys.disabled():
        print(f" {refused} hostile documents refused, nothing read or written outside ", end="")
    assert refused >= (2 * len(DOCUMENTS) if len(names) == 2 else 50)


def test_what_was_opened_is_noticed(tmp_path: Path, opened: list[str]) -> None:
    (tmp_path / "bait").write_text("x")
    assert str(tmp_path / "bait") in opened


def test_links_in_our_cache_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = toy_dataset.write(tmp_path / "store", num_train=6, num_other=2, shards=1)
    local = object_store.dataset(f"file://{store}")
    (tmp_path / "victim").write_text("mine")
    for name in ("vocab.txt", "toy-train.tfrecord-00000-of-00001"):
        (local / name).unlink()
        (local / name).symlink_to(tmp_path / "victim")
        with pytest.raises(UserError, match="is a link, which this program did not make"):
            object_store.dataset(f"file://{store}")
        (local / name).unlink()
    assert (tmp_path / "victim").read_text() == "mine"
    object_store.dataset(f"file://{store}")


class Writes:
    """What `pickle` would run when it reads it: a file is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "from the archive")


def test_an_archive_of_weights_runs_nothing(tmp_path: Path) -> None:
    """`pytorch_model.bin` is an archive of pickles, which may run anything and have members of any name."""
    torch = pytest.importorskip("torch")
    bait, model = tmp_path / "bait", tmp_path / "model"
    model.mkdir()
    weights = {"bert.embeddings.word_embeddings.weight": torch.zeros(2, 2)}
    for content in (Writes(bait), weights | {"x": Writes(bait)}, {"model": weights, "args": Writes(bait)}):
        for old in (False, True):
            torch.save(content, model / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
            with pytest.raises(UserError, match="is damaged, or holds more than weights"):
                huggingface.read_tensors(model)
    torch.save(weights, model / "pytorch_model.bin")
    with zipfile.ZipFile(model / "pytorch_model.bin", "a") as archive:
        archive.writestr("../../bait", "from the archive")
    with pytest.raises(UserError, match="is damaged, or holds more than weights"):
        huggingface.read_tensors(model)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in model.iterdir()] == ["pytorch_model.bin"]


def test_a_step_of_the_metrics_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    record = {"kind": "validation", "step": "../../outside", "time": 0, "score": 1.0}
    (tmp_path / "run" / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match="expected a checkpoint of"):
        loading.checkpoint_number(tmp_path / "run", "best")
