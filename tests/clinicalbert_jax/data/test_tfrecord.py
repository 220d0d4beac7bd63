"""The TFRecord codec: against a plain decoder, against damage, and against known bytes."""

import contextlib
import itertools
import struct
import tracemalloc
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.data import tfrecord
from clinicalbert_jax.data.schema import Feature, Layout
from clinicalbert_jax.data.tfrecord import CorruptRecordError, MalformedError, Shard
from clinicalbert_jax.errors import UserError
from tests.clinicalbert_jax.data import reference_example

LAYOUTS = {
    "padded": Layout("padded", 24, 4),
    "packed": Layout("packed", 150, 40, 3),
    "unmasked": Layout("padded", 24, 4, masked=False),
}
LARGE = {"input_ids": 30_000, "masked_lm_ids": 30_000, "masked_lm_positions": 150, "patient_group": 2**48}


def random_arrays(features: dict[str, Feature], rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.integers(0, LARGE.get(name, 2), (rows, feature.length))
        if feature.dtype == "int64"
        else rng.random((rows, feature.length)).astype(np.float32)
        for name, feature in features.items()
    }


def write(path: Path, layout: Layout, rows: int = 20) -> dict[str, np.ndarray]:
    arrays = random_arrays(layout.features(), rows)
    assert tfrecord.write_shard(path, [arrays], layout.features()) == rows
    return arrays


def decoded_type(values_NxM: np.ndarray) -> str:
    """Varints of at most four bytes hold 28 bits, and come as int32."""
    return "int32" if values_NxM.max() < 2**28 else "int64"


@pytest.mark.fast
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_shard_reads_back_in_any_order(tmp_path: Path, layout: Layout) -> None:
    arrays = write(tmp_path / "shard", layout)
    shard = Shard(tmp_path / "shard", layout.features())
    indices = np.array([7, 0, 19, 7])
    read = shard.read(indices)
    assert len(shard) == 20
    for name, feature in layout.features().items():
        assert read[name].dtype == ("float32" if feature.dtype == "float32" else decoded_type(arrays[name]))
        np.testing.assert_array_equal(read[name], arrays[name][indices])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_plain_decoder_reads_the_same(tmp_path: Path, layout: Layout) -> None:
    arrays = write(tmp_path / "shard", layout)
    shard = Shard(tmp_path / "shard", layout.features())
    for index in range(len(shard)):
        (payload,) = tfrecord.Records([shard]).payloads(np.array([index]))
        decoded = reference_example.decode(payload)
        assert list(decoded) == list(layout.features())
        for name, values in decoded.items():
            np.testing.assert_array_equal(values, arrays[name][index])


@settings(max_examples=200)
@given(st.data())
def test_integers_of_every_size_survive(data: st.DataObject) -> None:
    features = {name: Feature(data.draw(st.integers(1, 20)), "int64") for name in ("a", "b")}
    features["c"] = Feature(data.draw(st.integers(1, 40)), "float32")
    rows = data.draw(st.integers(1, 4))
    value = st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 300), st.sampled_from([0, 127, 128, 2**14, 2**62]))
    arrays = {
        name: np.array([[data.draw(value) for _ in range(feature.length)] for _ in range(rows)], np.int64)
        for name, feature in features.items()
        if feature.dtype == "int64"
    }
    floats = data.draw(st.lists(st.floats(width=32, allow_nan=False), min_size=rows * features["c"].length))
    arrays["c"] = np.array(floats[: rows * features["c"].length], np.float32).reshape(rows, -1)
    payloads = [record[12:-4] for record in tfrecord.encode(arrays, features)]
    decoded = tfrecord.decode(payloads, features)
    for name in features:
        np.testing.assert_array_equal(decoded[name], arrays[name])
        np.testing.assert_array_equal([reference_example.decode(payload)[name] for payload in payloads], arrays[name])


@pytest.mark.fast
def test_the_bytes_of_a_known_record() -> None:
    (record,) = tfrecord.encode({"ab": np.array([[1, 300]])}, {"ab": Feature(2, "int64")})
    payload = bytes.fromhex("0a0f0a0d0a02616212071a050a0301ac02")
    assert payload == b"\n\x0f\n\r\n\x02ab\x12\x07\x1a\x05\n\x03\x01\xac\x02"

    def masked_crc(data: bytes) -> bytes:
        crc = google_crc32c.value(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(payload))
    assert record == length + masked_crc(length) + payload + masked_crc(payload)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    layout = LAYOUTS["padded"]
    path = tmp_path / "shard"
    write(path, layout, rows=3)
    whole = path.read_bytes()
    start, end = np.fromfile(f"{path}.index", "<u8")[1:3]
    for bit in range(8 * int(start), 8 * int(end), 7):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        shard = Shard(path, layout.features())
        with pytest.raises(CorruptRecordError, match="record 1 of ") as caught:
            shard.read([0, 1, 2])
        assert (caught.value.path, caught.value.record) == (path, 1)
        shard.read([0, 2])


def test_records_of_many_shards_read_as_one(tmp_path: Path) -> None:
    """Shorter shards than a row is wide among them, and an empty one."""
    features = LAYOUTS["padded"].features()
    arrays = random_arrays(features, 40)
    arrays["patient_group"][:5] = 2**62  # records of other sizes
    ends, shards = [0, 1, 1, 30, 40], []
    for number, (start, end) in enumerate(itertools.pairwise(ends)):
        path = tmp_path / f"shard-{number}"
        tfrecord.write_shard(path, [{name: array[start:end] for name, array in arrays.items()}], features)
        shards.append(Shard(path, features))
    records = tfrecord.Records(shards)
    for chosen_N in (np.arange(40), np.random.default_rng(0).permutation(40)[:7], np.array([0])):
        read = records.read(chosen_N)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array[chosen_N])


def test_an_index_that_tells_of_an_impossible_record_is_refused(tmp_path: Path) -> None:
    """It is not believed: rows of its size would need more memory than there is."""
    path, features = tmp_path / "shard", LAYOUTS["padded"].features()
    write(path, LAYOUTS["padded"], rows=200)
    offsets = np.fromfile(f"{path}.index", "<u8")
    offsets[[0, 1, 199, 200]].tofile(f"{path}.index")
    shard = Shard(path, features)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptRecordError, match=r"record 1 of .* length"):
            shard.read(np.array([0] * 10_000 + [1]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_001 * int(offsets[199] - offsets[1]) / 2
    shard.read([2, 0])


@pytest.mark.parametrize("mutations", [4_000, pytest.param(120_000, marks=pytest.mark.soak)])
def test_mutated_examples_give_the_documented_error_or_a_reading(mutations: int) -> None:
    """Beneath the checksum: bytes of any kind are refused or read as arrays of the right shape."""
    rng = np.random.default_rng(0)
    features = LAYOUTS["packed"].features()
    payload = tfrecord.encode(random_arrays(features, 1), features)[0][12:-4]
    refused = 0
    for _ in range(mutations):
        mutated = bytearray(payload)
        kind = rng.integers(4)
        at = int(rng.integers(len(mutated)))
        if kind == 0:
            mutated[at] = int(rng.integers(256))
        elif kind == 1:
            del mutated[at : at + int(rng.integers(1, 20))]
        elif kind == 2:
            mutated[at:at] = rng.bytes(int(rng.integers(1, 20)))
        else:
            mutated[at : at + 8] = rng.bytes(8)
        try:
            decoded = tfrecord.decode([payload, bytes(mutated), payload], features)
        except MalformedError as error:
            refused += 1
            assert error.row == 1
        else:
            assert all(decoded[name].shape == (3, feature.length) for name, feature in features.items())
        with contextlib.suppress(reference_example.MalformedExampleError):
            reference_example.decode(bytes(mutated))
    assert refused > mutations / 2


def test_an_example_of_other_features_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "shard", LAYOUTS["padded"])
    for other in (Layout("padded", 24, 5), Layout("padded", 25, 4), LAYOUTS["packed"], LAYOUTS["unmasked"]):
        with pytest.raises(CorruptRecordError, match="record 3"):
            Shard(tmp_path / "shard", other.features()).read([3])


@pytest.mark.parametrize("name", ["shard", "shard.index"])
def test_a_missing_or_cut_file_is_named(tmp_path: Path, name: str) -> None:
    features = LAYOUTS["padded"].features()
    write(tmp_path / "shard", LAYOUTS["padded"])
    cut = (tmp_path / name).read_bytes()[:-8]
    (tmp_path / name).write_bytes(cut)
    with pytest.raises(UserError, match="truncated or another"):
        Shard(tmp_path / "shard", features)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="expected the shard"):
        Shard(tmp_path / "shard", features)


def test_a_negative_integer_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        tfrecord.encode({"a": np.array([[-1]])}, {"a": Feature(1, "int64")})


def test_an_empty_shard(tmp_path: Path) -> None:
    features = LAYOUTS["padded"].features()
    assert tfrecord.write_shard(tmp_path / "shard", [], features) == 0
    shard = Shard(tmp_path / "shard", features)
    assert len(shard) == 0
    assert {name: array.shape for name, array in shard.read([]).items()}["input_ids"] == (0, 24)


def test_a_wrong_length_is_refused() -> None:
    features = LAYOUTS["padded"].features()
    payload = bytearray(tfrecord.encode(random_arrays(features, 1), features)[0][12:-4])
    at = payload.index(b"input_ids") - 3  # the last byte of the length of this map entry
    payload[at] ^= 1
    with pytest.raises(MalformedError, match="a length in it is wrong"):
        tfrecord.decode([bytes(payload)], features)
