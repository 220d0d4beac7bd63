"""Notes of random words, prepared and memorised by a tiny model: what the audit's tests look at.

python -m tests.clinicalbert_jax.audit.memorised DIRECTORY CANARIES STEPS
"""

import csv
import dataclasses
import sys
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

NUM_PATIENTS, NOTES_OF_EACH, LENGTH = 150, 2, 48
BATCH_SIZE = 32
WORDS = [f"{first}{middle}{last}" for first in "bdfglmnprst" for middle in "aeiou" for last in ("lin", "ter", "s", "x")]
FORM = ["patient", "number", "is", "has", "a", "history", "of"]


def write_notes(path: Path, seed: int, sentences: int = 3) -> None:
    """Notes of `NUM_PATIENTS` patients."""
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


def prepared(directory: Path, name: str, canaries: int = 0, seed: int = 0, **settings: object) -> Path:
    """The dataset NAME of notes with a seed; half of the patients are held out."""
    notes, vocabulary = directory / f"{name}.csv", directory / "vocab.txt"
    write_notes(notes, seed)
    write_vocabulary(vocabulary)
    canary = CanaryConfig(canaries, canaries_file=str(directory / f"{name}.json") if canaries else "")
    config = dataclasses.replace(config_of(notes, vocabulary), canary=canary, **settings)  # type: ignore[arg-type]
    return prepare.run(config, directory / name, EngineConfig(num_workers=1))


def config_of(notes: Path, vocabulary: Path) -> PrepConfig:
    """How notes are prepared."""
    return PrepConfig(
        source=SourceConfig((str(notes),), text_column="text", patient_column="patient", category_column="kind"),
        vocabulary=VocabularyConfig(vocab_file=str(vocabulary)),
        selection=SelectionConfig(validation_fraction=0.0, test_fraction=0.5),
        max_seq_length=LENGTH,
        dupe_factor=1,
        masking="dynamic",
    )


def steps_of(data_dir: Path, passes: int) -> int:
    """Steps of so many passes over the training notes."""
    return passes * Manifest.load(data_dir).splits["train"].num_examples // BATCH_SIZE


def trained(data_dir: Path, run: Path, steps: int, init_from: Path | None = None) -> Path:
    """A run on the data, long enough to memorise it; `init_from` is the run that it continues from, if any."""
    config = Config(
        init_from=str(init_from or ""),
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
            steps=steps,
            global_batch_size=BATCH_SIZE,
            dtype="float32",
            log_every=100,
            eval_every=0,
            checkpoint_every=steps,
        ),
    )
    pretrain(workdir.check_data(config, Manifest.load(data_dir), data_dir), data_dir, run)
    return run


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    trained(prepared(directory, "notes", canaries=int(sys.argv[2])), directory / "run", int(sys.argv[3]))
