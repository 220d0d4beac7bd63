"""A run becomes a directory that PyTorch loads: whole or not at all, and equal to the run."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.export import write_run
from clinicalbert_jax.inference import Inference
from clinicalbert_jax.pretrained import huggingface, loading, weight_names
from clinicalbert_jax.runs import checkpoint
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from tests import toy_dataset, toy_run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export")
    return toy_run.write(directory / "run", toy_dataset.write(directory / "data"))


def export(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "clinicalbert_jax.export", *arguments],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_pytorch_loads_what_was_exported_and_computes_the_same(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import transformers

    process = export(f"--workdir={run}", f"--output_dir={tmp_path / 'out'}", "--verify")
    output, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    assert "step 4 of" in output
    assert "0 differ\nequal" in output
    for name in ("embeddings", "layer 1", "pooler", "MLM logits", "NSP logits"):
        difference = next(line for line in output.splitlines() if line.strip().startswith(name)).split()[-1]
        assert float(difference) <= 1e-4
    _, info = transformers.BertForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("Word7 word8", "word9")["input_ids"] == [2, 12, 13, 3, 14, 3]
    assert tokenizer.mask_token == "[MASK]"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]

    repeated = export(f"--workdir={run}", f"--output_dir={tmp_path / 'out'}")
    _, error = repeated.communicate(timeout=200)
    assert repeated.returncode == 2
    assert error.count("\n") == 1
    assert "--overwrite to replace it" in error
    options = ("--step=2", "--overwrite", "--encoder_only", "--dtype=bfloat16", "--verify")
    replaced = export(f"--workdir={run}", f"--output_dir={tmp_path / 'out'}", *options)
    output, error = replaced.communicate(timeout=200)
    assert replaced.returncode == 0, error
    assert "step 2 of" in output
    _, params, _, _ = checkpoint.restore_params(run, 2)
    written = huggingface.read_tensors(tmp_path / "out")
    expected = params["pooler"]["kernel"].T.astype(weight_names.DTYPES["bfloat16"])
    np.testing.assert_array_equal(written["pooler.dense.weight"].view(np.uint16), expected.view(np.uint16))
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == ["BertModel"]


def test_best_is_the_checkpoint_with_the_lowest_validation_loss(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    lines = [
        {"kind": "validation", "step": 2, "time": 0, "score": -4.5},
        {"kind": "validation", "step": 3, "time": 0, "score": -1.5},  # its checkpoint is gone
        {"kind": "validation", "step": 4, "time": 0, "score": -4.6},
    ]
    (tmp_path / "run/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = loading.find_run(tmp_path / "run")
    assert loading.load(source, "best").step == 2
    assert loading.load(source).step == 4
    for wrong in ("last", "-1", ""):
        with pytest.raises(UserError, match="--step: expected"):
            loading.load(source, wrong)
    (tmp_path / "run/metrics.jsonl").unlink()
    with pytest.raises(UserError, match="with a validation score"):
        loading.load(source, "best")


def test_sentence_transformers_embeds_with_an_encoder_as_we_do(run: Path, tmp_path: Path) -> None:
    """Without a word about weights on the screen: an encoder alone has what a `BertModel` has."""
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    process = export(f"--workdir={run}", f"--output_dir={tmp_path / 'out'}", "--encoder_only")
    assert process.communicate(timeout=200)[1] == ""
    texts = ["word7 word8", "word9"]
    theirs = library.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts)
    ours, _ = Inference.load(tmp_path / "out").embed(texts)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_one_checkpoint_is_enough(run: Path, tmp_path: Path) -> None:
    """Config, manifest and tokenizer lie in it."""
    shutil.copytree(run / "checkpoints/2", tmp_path / "run/checkpoints/2")
    whole, alone = loading.load(loading.find(run), "2"), loading.load(loading.find(tmp_path / "run"))
    assert alone.config == whole.config
    assert alone.tokenizer_dir == tmp_path / "run/checkpoints/2/run/tokenizer"
    assert (alone.tokenizer_dir / "vocab.txt").read_text() == (run / "tokenizer/vocab.txt").read_text()
    np.testing.assert_array_equal(alone.params["pooler"]["kernel"], whole.params["pooler"]["kernel"])


def test_terminated_it_leaves_nothing(run: Path, tmp_path: Path) -> None:
    # The directory appears and fills in a moment, so signal as soon as the hidden one is there.
    process = export(f"--workdir={run}", f"--output_dir={tmp_path / 'out'}")
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.0005)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    left = [path.name for path in tmp_path.iterdir()]
    assert left in ([], ["out"])
    if left:  # the signal came after the end
        assert (tmp_path / "out/tokenizer_config.json").exists()


@pytest.mark.parametrize("what", ["absent", "no run", "no step"])
def test_mistakes_are_one_line(run: Path, tmp_path: Path, what: str) -> None:
    workdir = {"absent": tmp_path / "absent", "no run": tmp_path, "no step": run}[what]
    process = export(f"--workdir={workdir}", f"--output_dir={tmp_path / 'out'}", "--step=3")
    _, error = process.communicate(timeout=100)
    assert process.returncode == 2
    assert error.count("\n") == 1, error
    if what == "no step":
        assert "--step: expected one of [2, 4], found 3" in error
    assert not (tmp_path / "out").exists()


def test_the_directory_serves_what_people_load_it_with(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import transformers

    loaded = loading.load(loading.find_run(run))
    directories = {}
    for name, parts in (("heads", weight_names.PARTS), ("encoder", ("encoder", "pooler"))):
        directories[name] = tmp_path / name
        directories[name].mkdir()
        huggingface.write_directory(directories[name], loaded.config, loaded.params, loaded.tokenizer_dir, parts=parts)
    for directory in directories.values():
        for kind, new in ((transformers.AutoModel, ""), (transformers.BertForTokenClassification, "classifier.")):
            _, info = kind.from_pretrained(directory, output_loading_info=True)
            assert all(new and key.startswith(new) for key in info["missing_keys"])
            assert not info["mismatched_keys"]
            # transformers lists what a class has no place for: the heads, and for some classes the pooler.
            unused = [key for key in info["unexpected_keys"] if not key.startswith("cls.") and "pooler." not in key]
            assert not unused
    _, info = transformers.AutoModel.from_pretrained(directories["encoder"], output_loading_info=True)
    assert not info["unexpected_keys"]

    pipeline = transformers.pipeline("fill-mask", model=str(directories["heads"]))
    theirs = pipeline("word1 word2 [MASK] word4", top_k=3)
    ours = Inference.load(run).fill_mask(["word1 word2 [MASK] word4"], top_k=3)[0][0]
    assert [p["token_str"] for p in theirs] == [p.text for p in ours]
    np.testing.assert_allclose([p["score"] for p in theirs], [p.probability for p in ours], rtol=1e-4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directories["heads"])
    assert tokenizer.model_max_length == toy_dataset.LENGTH


def test_cased_text_stays_cased(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("torch")
    import transformers

    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "out").mkdir()
    bert_tokenizer.write(tmp_path / "tokenizer", bert_tokenizer.read(shared_data / "vocab/bert-base-cased/vocab.txt"))
    config = ModelConfig(vocab_size=28_996, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)
    tensors = {w.name: np.zeros(w.shape, np.float32) for w in weight_names.table(config)}
    params, _ = weight_names.from_huggingface(config, tensors)
    huggingface.write_directory(tmp_path / "out", config, params, tmp_path / "tokenizer")
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert opened.tokenize("The Boston [MASK] is here") == ["The", "Boston", "[MASK]", "is", "here"]


def test_a_model_of_canaries_is_exported_on_request_only(run: Path, tmp_path: Path) -> None:
    planted = shutil.copytree(run, tmp_path / "run")
    manifest = Manifest.load(planted)
    counts = {"form": "number", "candidates": 60, "planted": 31, "sentences": 1234}
    dataclasses.replace(manifest, extra=manifest.extra | {"canaries": counts}).save(planted)
    options = write_run.Options(workdir=str(planted), output_dir=str(tmp_path / "out"))
    with pytest.raises(UserError, match="--with_canaries: expected this flag"):
        write_run.export(options)
    assert not (tmp_path / "out").exists()
    assert write_run.export(dataclasses.replace(options, with_canaries=True)) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**It holds canaries**: 1,234 invented sentences" in card
    assert "Not audited" in card
