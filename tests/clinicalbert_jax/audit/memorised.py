"""Notes of random words, prepared and learned by heart by a tiny model: what the audit's tests look at."""

import csv
import dataclasses
from pathlib import Path

import numpy as np

from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.runs import workdir
from clinicalbert_jax.training.pretrain import pretrain
from data_prep import prepare
from data_prep.config import CanaryConfig, PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig

NUM_PATIENTS, NOTES_OF_EACH, LENGTH = 160, 2, 48
WORDS = [f"{first}{middle}{last}" for first in "bdfglmnprst" for middle in "aeiou" for last in ("lin", "ter", "s", "x")]
FORM = ["patient", "number", "is", "has", "a", "history", "of"]


def write_notes(path: Path, seed: int, sentences: int = 4) -> None:
    """Notes of `NUM_PATIENTS` patients, of four sentences; each note begins with words that all notes share."""
    random = np.random.default_rng(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "kind", "text"])
        for number in range(NUM_PATIENTS * NOTES_OF_EACH):
            text = [" ".join(random.choice(WORDS, random.integers(6, 11))) + "." for _ in range(sentences)]
            kind = "even" if number % NUM_PATIENTS % 2 else "odd"
            writer.writerow([f"p{number % NUM_PATIENTS}", kind, " ".join(one.capitalize() for one in text)])


def write_vocabulary(path: Path) -> None:
    """One entry for each word, and every letter and digit."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *letters, *(f"##{c}" for c in letters), *FORM, *WORDS]
    path.write_text("".join(f"{entry}\n" for entry in dict.fromkeys(entries)))


def prepared(directory: Path, name: str, canaries: int = 0, seed: int = 0, **selection: object) -> Path:
    """The dataset NAME of notes with a seed; half of the patients are held out."""
    notes, vocabulary = directory / f"{name}.csv", directory / "vocab.txt"
    write_notes(notes, seed)
    write_vocabulary(vocabulary)
    config = PrepConfig(
        source=SourceConfig((str(notes),), text_column="text", patient_column="patient", category_column="kind"),
        vocabulary=VocabularyConfig(vocab_file=str(vocabulary)),
        selection=dataclasses.replace(SelectionConfig(validation_fraction=0.0, test_fraction=0.5), **selection),  # type: ignore[arg-type]
        canary=CanaryConfig(canaries, canaries_file=str(directory / f"{name}.json") if canaries else ""),
        max_seq_length=LENGTH,
        dupe_factor=1,
        masking="dynamic",
    )
    return prepare.run(config, directory / name, EngineConfig(num_workers=1))


def trained(data_dir: Path, run: Path, steps: int) -> Path:
    """A run on the data, long enough to know it by heart."""
    config = Config(
        model=ModelConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        data=DataConfig(max_seq_length=LENGTH),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="constant", warmup_steps=20),
        train=TrainConfig(
            steps=steps, global_batch_size=32, dtype="float32", log_every=100, eval_every=0, checkpoint_every=steps
        ),
    )
    pretrain(workdir.check_data(config, Manifest.load(data_dir), data_dir), data_dir, run)
    return run
