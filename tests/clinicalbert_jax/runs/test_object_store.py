"""A run and a dataset in an object store: a real S3 server on this machine, and local copies that come and go."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import run_pretrain
from clinicalbert_jax.config import Config
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs import lease, object_store
from clinicalbert_jax.runs.checkpoint import restore_params
from tests import toy_dataset
from tests.clinicalbert_jax.conftest import pretrain, small_config

moto_server = pytest.importorskip("moto.server", reason="moto is of the test extra")
s3fs = pytest.importorskip("s3fs", reason="s3fs is of the test extra")
pytestmark = [
    pytest.mark.usefixtures("compilation_cache"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of moto's and s3fs's own libraries
]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "the one of the fixture `compilation_cache`")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"hospital-{secrets.token_hex(4)}"  # the servers of one process share their memory
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def pretrain_there(config: Config, data: str, run: str) -> int:
    return run_pretrain.main(run_pretrain.Options(config=config, data_dir=data, workdir=run))


def test_a_run_moves_to_a_machine_without_a_copy(bucket: str, tmp_path: Path) -> None:
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=40)
    s3fs.S3FileSystem().put(str(data_dir), f"{bucket}/data", recursive=True)
    config, longer = small_config(steps=6), small_config(steps=12)
    assert pretrain_there(config, f"{bucket}/data", f"{bucket}/runs/one") == 0
    shutil.rmtree(tmp_path / "cache")  # another machine
    assert pretrain_there(longer, f"{bucket}/data", f"{bucket}/runs/one") == 0

    assert pretrain(longer, data_dir, tmp_path / "alone") == 0
    local = object_store.run(f"{bucket}/runs/one")
    for ours, expected in zip(
        jax.tree.leaves(restore_params(local)[1]), jax.tree.leaves(restore_params(tmp_path / "alone")[1]), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    kept = {
        name.split("/")[-1] for name in s3fs.S3FileSystem(use_listings_cache=False).ls(f"{bucket}/runs/one/checkpoints")
    }
    assert kept == {"6", "9", "12"}, "three are kept there as here"
    assert local.stat().st_mode & 0o077 == 0


def test_a_checkpoint_that_did_not_arrive_whole_is_not_taken(bucket: str, tmp_path: Path) -> None:
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=40)
    assert pretrain_there(small_config(steps=6), str(data_dir), f"{bucket}/run") == 0
    s3fs.S3FileSystem().rm(f"{bucket}/run/checkpoints/6/checksums.json")
    shutil.rmtree(tmp_path / "cache")
    local = object_store.run(f"{bucket}/run")
    assert restore_params(local)[3] == 3


def test_a_dataset_that_changed_on_the_way_and_an_absent_one_are_refused(bucket: str, tmp_path: Path) -> None:
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=40)
    s3fs.S3FileSystem().put(str(data_dir), f"{bucket}/data", recursive=True)
    shard = next(data_dir.glob("*-train.tfrecord-00000*3"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    s3fs.S3FileSystem().pipe(f"{bucket}/data/{shard.name}", bytes(content))
    with pytest.raises(UserError, match="is not the file that its manifest describes"):
        object_store.dataset(f"{bucket}/data")
    with pytest.raises(UserError, match=r"expected a file at s3://hospital-\w+/none/manifest.json, found none"):
        object_store.dataset(f"{bucket}/none")
    with pytest.raises(UserError, match="protocol"):
        object_store.dataset("nosuch://hospital/data")


def test_a_store_that_is_gone_costs_no_steps(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    data_dir = toy_dataset.write(tmp_path / "toy", num_train=40)
    monkeypatch.setattr(object_store, "_FINISH_WITHIN_S", 0.0)
    monkeypatch.setattr(object_store.Bucket, "put", refused)
    with pytest.raises(UserError, match="cannot be written"):
        pretrain_there(small_config(steps=6), str(data_dir), f"{bucket}/run")
    said = capsys.readouterr().err
    assert said.count("; training continues, and it is tried again") == 1
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert restore_params(object_store.run_directory(f"{bucket}/run"))[3] == 6


def test_conditional_writes_to_s3(bucket: str) -> None:
    store = object_store.Bucket(f"{bucket}/run")
    assert store.look("lease.json") is None
    first = store.replace("lease.json", b"one", None)
    assert first
    assert store.replace("lease.json", b"two", None) is None
    assert store.replace("lease.json", b"two", '"another version"') is None
    found = store.look("lease.json")
    assert found
    assert (found.content, found.version) == (b"one", first)
    assert 0 <= found.age_s < 60
    assert store.replace("lease.json", b"two", first)
    assert store.replace("lease.json", b"three", first) is None
    assert store.read("lease.json") == b"two"
    store.remove("lease.json")
    assert store.replace("lease.json", b"three", first) is None, "it was removed"
    with pytest.raises(UserError, match=r"none/run cannot be written \(no such bucket\)"):
        object_store.Bucket("s3://none/run").replace("lease.json", b"one", None)


def test_a_bucket_of_google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Against an emulator, which knows files, versions and their age, but ignores the condition of a write."""
    gcsfs = pytest.importorskip("gcsfs", reason="gcsfs is of the test extra")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is of the test extra")
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="hospital")
    server.start()
    try:
        host, port = server._api._httpd.server_address
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
        monkeypatch.setenv("NO_GCE_CHECK", "true")  # for credentials, which the emulator does not ask for
        gcsfs.GCSFileSystem.clear_instance_cache()
        store = object_store.Bucket("gs://hospital/run")
        assert (store.look("note.json"), store.files()) == (None, [])
        (tmp_path / "step" / "3").mkdir(parents=True)
        (tmp_path / "step" / "3" / "array").write_bytes(bytes(range(256)))
        store.put("step/3/array", tmp_path)
        store.get("step/3/array", tmp_path / "copy")
        assert (tmp_path / "copy" / "step" / "3" / "array").read_bytes() == bytes(range(256))
        version = store.replace("note.json", b"one", None)
        found = store.look("note.json")
        assert found
        assert (found.content, found.version) == (b"one", version)
        assert -2 < found.age_s < 60
        with lease.held(store, tmp_path):
            assert store.files() == ["lease.json", "note.json", "step/3/array"]
        assert "is in a store without conditional writes" in capsys.readouterr().err
        store.remove("step/3")
        assert store.files() == ["lease.json", "note.json"]
    finally:
        server.stop()


def refused(self: object_store.Bucket, name: str, local: Path) -> None:
    raise UserError(f"{self.url} cannot be written (PermissionError)")
