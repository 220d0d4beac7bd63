"""A tiny pre-trained BERT as an exported directory, for tests of the commands."""

import json
from pathlib import Path

import jax

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import huggingface
from tests.clinicalbert_jax.finetune import toy_tokenizer


def write(directory: Path) -> Path:
    """Write it below `directory`; returns where."""
    words = toy_tokenizer.make().get_vocab()
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(words, key=words.__getitem__)))
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    config = ModelConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    params = jax.device_get(bert.init(config, jax.random.key(0)))
    out = directory / "bert"
    out.mkdir()
    huggingface.write_directory(out, config, params, directory)
    return out
