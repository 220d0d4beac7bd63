"""`python -m data_prep.verify` finds every kind of damage to a dataset, and none where there is none."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.data import tfrecord
from clinicalbert_jax.data.manifest import Manifest, sha256_of
from clinicalbert_jax.data.tfrecord import Shard as OpenShard
from data_prep import verify
from tests import toy_dataset

pytestmark = pytest.mark.fast


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return toy_dataset.write(tmp_path / "toy", num_train=40, num_other=10)


def damage_to(data_dir: Path) -> list[str]:
    return list(verify.faults(data_dir, Manifest.load(data_dir)))


def test_a_whole_dataset_has_no_faults(data_dir: Path, capsys: pytest.CaptureFixture) -> None:
    assert damage_to(data_dir) == []
    assert verify.main(verify.Options(directory=(str(data_dir),))) == 0
    assert capsys.readouterr().out == "60 records in 9 shards are as they were written\n"


def test_every_damaged_record_is_named(data_dir: Path, capsys: pytest.CaptureFixture) -> None:
    path = data_dir / "toy-train.tfrecord-00001-of-00003"
    content = bytearray(path.read_bytes())
    for place in (len(content) // 4, len(content) // 2):
        content[place] ^= 1
    path.write_bytes(content)
    found = damage_to(data_dir)
    assert len(found) == 2
    assert all(f"of {path}" in fault and fault.startswith("record ") for fault in found)
    assert verify.main(verify.Options(directory=(str(data_dir),))) == 2
    assert "2 faults" in capsys.readouterr().err


def test_missing_truncated_and_foreign_files_are_named(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "toy-test.tfrecord-00000-of-00003").unlink()
    shard = data_dir / "toy-validation.tfrecord-00000-of-00003"
    shard.write_bytes(shard.read_bytes()[:-5])
    other = toy_dataset.write(tmp_path / "other", num_train=40, num_other=10, seed=1)
    for suffix in ("", ".index"):
        name = f"toy-train.tfrecord-00000-of-00003{suffix}"
        (data_dir / name).write_bytes((other / name).read_bytes())
    (data_dir / "vocab.txt").write_text("[PAD]\n")
    found = damage_to(data_dir)
    assert len(found) == 4
    for part, said in (
        ("toy-test.tfrecord-00000", "No such file"),
        ("toy-validation.tfrecord-00000", "truncated or another"),
        ("toy-train.tfrecord-00000", "from another preparation"),
        ("vocab.txt", "not the file that was written"),
    ):
        assert any(part in fault and said in fault for fault in found), found


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        ("input_ids", len(toy_dataset.VOCABULARY)),
        ("input_mask", 2),
        ("segment_ids", 2),
        ("sequence_ids", 4),
        ("masked_lm_positions", toy_dataset.LENGTH),
        ("masked_lm_positions", toy_dataset.LENGTH - 1),  # padding
        ("masked_lm_ids", 2**40),
        ("masked_lm_weights", 0.5),
        ("masked_lm_weights", np.nan),
        ("next_sentence_positions", toy_dataset.LENGTH),
        ("next_sentence_labels", 2),
        ("next_sentence_weights", -1),
        ("note_category", 1),
    ],
)
def test_values_out_of_range_are_found_beneath_the_checksums(data_dir: Path, feature: str, value: float) -> None:
    manifest = Manifest.load(data_dir)
    packed = dataclasses.replace(manifest.layout, kind="packed", max_sequences_per_row=3)
    layout = manifest.layout if feature in manifest.layout.features() else packed
    shard = manifest.splits["train"].shards[1]
    arrays = OpenShard(data_dir / shard.file, manifest.layout.features()).read(range(shard.num_examples))
    if layout is packed:
        arrays["sequence_ids"] = arrays.pop("input_mask")
        for name, kind in layout.features().items():
            arrays[name] = np.resize(arrays.get(name, np.ones(1)), (shard.num_examples, kind.length))
        arrays["note_category"][:] = arrays["next_sentence_weights"][:] = 0
    path = data_dir / "rewritten"

    def found() -> list[str]:
        tfrecord.write_shard(path, [arrays], layout.features())
        rewritten = dataclasses.replace(shard, file=path.name, num_bytes=path.stat().st_size, sha256=sha256_of(path))
        split = dataclasses.replace(manifest.splits["train"], shards=(rewritten,))
        return list(verify.faults(data_dir, dataclasses.replace(manifest, layout=layout, splits={"train": split})))

    assert found() == []
    arrays[feature] = arrays[feature].astype(np.float64 if isinstance(value, float) else np.int64)
    arrays[feature][7, 0] = value
    (fault,) = found()
    assert fault.startswith(f"record 7 of {path}: expected ")
    assert feature in fault or "in the padding" in fault
