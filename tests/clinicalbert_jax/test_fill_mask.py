"""The commands over `inference`: arguments, files and standard input in; tables, JSON and vectors out."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.pretrained import huggingface, weight_names
from tests.toy_dataset import VOCABULARY

ROOT = Path(__file__).parents[2]
CONFIG = ModelConfig(
    vocab_size=len(VOCABULARY), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=32
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer, directory = tmp_path_factory.mktemp("tokenizer"), tmp_path_factory.mktemp("model")
    (tokenizer / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    params, _ = weight_names.from_huggingface(
        CONFIG, {w.name: np.ones(w.shape, "f") for w in weight_names.table(CONFIG)}
    )
    huggingface.write_directory(directory, CONFIG, params, tokenizer)
    return directory


def command(name: str, *arguments: object, text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", f"clinicalbert_jax.{name}", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": ""},
        input=text,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_fill_mask_from_arguments_and_standard_input(model: Path) -> None:
    done = command("fill_mask", f"--model={model}", "--top_k=2", "word1 [MASK] word3", "[MASK] and [MASK]")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[3]) == ("text 1", "text 2")
    assert lines[1].split()[0].endswith("%")
    assert len(lines) == 1 + 2 + 1 + 2 * 3  # a title and two predictions for each of two masks
    arguments = (f"--model={model}", "--input=-", "--json", "--candidates=word7,word8 word9", "--show_text")
    done = command("fill_mask", *arguments, text="word1 [MASK]\n\n[MASK]\n")
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [document["text"] for document in documents] == ["word1 [MASK]", "[MASK]"]
    assert {p["text"] for p in documents[0]["masks"][0]} == {"word7", "word8 word9"}


def test_a_small_probability_is_not_shown_as_none(model: Path) -> None:
    done = command("fill_mask", f"--model={model}", "--candidates=word7 word8 word9", "word1 [MASK]")
    assert "e-0" in done.stdout.splitlines()[1].split()[0]


def test_next_sentence_from_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("word1 word2\tword3\nword4\tword5\n")
    done = command("next_sentence", f"--model={model}", f"--input={tmp_path / 'pairs.tsv'}", "--json")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["probability"] for line in done.stdout.splitlines()] == pytest.approx([0.5, 0.5])
    (tmp_path / "pairs.tsv").write_text("word1 word2\n")
    done = command("next_sentence", f"--model={model}", f"--input={tmp_path / 'pairs.tsv'}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "on line 1" in done.stderr


def test_embed_to_both_kinds_of_file(model: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"id": "a", "text": "word1"}\n{"id": "b", "text": "' + "word2 " * 60 + '"}\n')
    arguments = (f"--model={model}", f"--input={notes}")
    done = command("embed", *arguments, f"--output={tmp_path / 'v.parquet'}")
    assert done.returncode == 0, done.stderr
    assert "1 texts were truncated to 32 tokens" in done.stdout
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table["id"].to_pylist() == ["a", "b"]
    done = command("embed", *arguments, f"--output={tmp_path / 'v.npz'}", "--pooling=cls")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "v.npz") as arrays:
        assert arrays["vectors"].shape == (2, 8)
        assert arrays["ids"].tolist() == ["a", "b"]
    done = command("embed", *arguments, f"--output={tmp_path / 'v.npz'}")
    assert "--overwrite" in done.stderr


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("fill_mask", ["[MASK]"], "--model: expected a value"),
        ("fill_mask", ["--model=/absent", "[MASK]"], "expected the directory of a BERT"),
        ("fill_mask", ["--model=/absent"], "expected texts as arguments or --input"),
        ("fill_mask", ["--model=/absent", "--top_k=0", "[MASK]"], "top_k"),
        ("embed", ["--model=/absent", "--output=vectors.csv", "--input=-"], "expected FILE.parquet or FILE.npz"),
        ("next_sentence", ["--model=/absent", "one"], "expected two texts as arguments, found 1"),
    ],
)
def test_mistakes_are_answered_at_once_in_one_line(name: str, arguments: list[str], message: str) -> None:
    start = time.monotonic()
    done = command(name, *arguments, text="")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert time.monotonic() - start < 5
