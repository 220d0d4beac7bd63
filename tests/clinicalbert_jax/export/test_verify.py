"""`export --verify` passes for every kind of model as it was written, and fails when a file of it is changed."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.export import tokenizer_parity
from clinicalbert_jax.finetune import export, finetuned_model, heads
from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.entities.task import EntitiesConfig
from clinicalbert_jax.finetune.questions.task import QuestionsConfig
from clinicalbert_jax.pretrained import huggingface, loading, weight_names
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, AddedToken, Settings

LETTERS = "abcdeéßıACDPÉ中血.[]"
ENTRIES = (*SPECIAL_TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS))
CASED = Settings(ENTRIES, False, False, True, (AddedToken("covid19"),), 24)
CONFIG = ModelConfig(
    vocab_size=len(CASED.tokens), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    max_position_embeddings=32,
)  # fmt: skip
TASKS = {
    "entities": EntitiesConfig().task_with_labels(("O", "B-drug", "I-drug")),
    "classification": ClassificationConfig().task_with_labels(("0", "1")),
    "questions": QuestionsConfig().task_with_labels(("begin", "end")),
}


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    bert_tokenizer.write(directory, CASED)
    return directory


def double(directory: Path, ending: str) -> None:
    tensors = load_file(directory / "model.safetensors")
    (name,) = [name for name in tensors if name.endswith(ending)]
    save_file(tensors | {name: tensors[name] * 2 + 1}, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.usefixtures("compilation_cache")
@pytest.mark.parametrize("kind", TASKS)
def test_a_fine_tuned_model(tokenizer_dir: Path, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("torch")
    task = TASKS[kind]
    params = jax.tree.map(np.asarray, heads.init(CONFIG, len(task.labels), jax.random.key(0)))
    model = finetuned_model.Trained(task, CONFIG, params, tokenizer_dir, 1)
    directory = tmp_path / "out"
    directory.mkdir()
    export.write(directory, model, tmp_path, "bfloat16")
    assert bert_tokenizer.read(directory) == CASED
    assert export.difference(directory, model, "bfloat16") < 1e-5
    double(directory, f"{finetuned_model.LAYERS[task.head]}.bias")
    assert export.difference(directory, model, "bfloat16") > 1e-3
    if task.head != "span":
        config = json.loads((directory / "config.json").read_text())
        config["id2label"]["0"] = "other"
        (directory / "config.json").write_text(json.dumps(config))
        assert export.difference(directory, model, "bfloat16") == float("inf")


@pytest.mark.usefixtures("compilation_cache")
@pytest.mark.parametrize(
    ("parts", "segments"), [(weight_names.PARTS, 2), (("encoder", "pooler"), 1)], ids=["heads", "encoder"]
)
def test_a_pre_trained_model(tokenizer_dir: Path, tmp_path: Path, parts: tuple[str, ...], segments: int) -> None:
    pytest.importorskip("torch")
    from clinicalbert_jax.export import pytorch_parity

    config = dataclasses.replace(CONFIG, type_vocab_size=segments)
    generator = np.random.default_rng(0)
    tensors = {w.name: generator.standard_normal(w.shape, np.float32) for w in weight_names.table(config)}
    params, _ = weight_names.from_huggingface(config, tensors)
    huggingface.write_directory(tmp_path, config, params, tokenizer_dir, parts=parts)
    loaded = loading.Loaded(config, params, tokenizer_dir, (), 1)
    assert pytorch_parity.compare(tmp_path, loaded, "float32").equal
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(document | {"layer_norm_eps": 0.1}))
    assert not pytorch_parity.compare(tmp_path, loaded, "float32").equal
    double(tmp_path, "pooler.dense.bias")
    assert pytorch_parity.compare(tmp_path, loaded, "float32").tensors["bert.pooler.dense.bias"] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"do_lower_case": True},
        {"strip_accents": True},
        {"tokenize_chinese_chars": False},
        {"added_tokens": ()},
        {"added_tokens": (AddedToken("covid19", single_word=True),)},
        {"entries": (*ENTRIES[:-2], ENTRIES[-1], ENTRIES[-2])},
        {"model_max_length": 500},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_tokenizer(tmp_path: Path, changes: dict) -> None:
    pytest.importorskip("transformers")
    bert_tokenizer.write(tmp_path, CASED)
    assert tokenizer_parity.compare(tmp_path, CASED, 32).equal
    bert_tokenizer.write(tmp_path, dataclasses.replace(CASED, **changes))
    comparison = tokenizer_parity.compare(tmp_path, CASED, 32)
    assert not comparison.equal
    assert comparison.report().endswith("NOT EQUAL")
