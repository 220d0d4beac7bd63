"""What lowers what a small model keeps of its notes, by this project's own audit.

    python -m benchmarks.privacy.what_lowers_it --notes=NOTEEVENTS.csv.gz --output=DIR

Takes the patients of NOTEEVENTS with the least text, prepares their notes with copies and canaries in them, trains one
model for each measure and seed, and audits each at its best checkpoint on validation and at others. Prints a Markdown
table; what is done lies in DIR, and is not done again.
"""

import csv
import gzip
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinicalbert_jax import cli
from clinicalbert_jax.audit import command
from clinicalbert_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.evaluate import heldout
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import workdir
from data_prep import prepare
from data_prep.config import CanaryConfig, PrepConfig, VocabularyConfig
from data_prep.prepare import EngineConfig
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig

BATCH_SIZE, LENGTH = 32, 64
COPIES = 2  # of each note of every other patient, with a line of their own
DUPE_FACTOR = 5
CHARACTERS = 400  # of a note, from its beginning
EVERY = 5  # passes over the training notes of the base: a checkpoint, and a loss on validation
PASSES = (25, 50, 75, 100)  # after which a model is audited, beside the best on validation
# Of the base: notes are masked anew in every pass, copies dropped, no dropout.
BASE: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "dropout": 0.0}
ARMS: dict[str, dict[str, Any]] = {
    "base": {},
    "near-duplicates kept": {"near_duplicate_threshold": 2.0},
    "dropout 0.1": {"dropout": 0.1},
    "static masking": {"masking": "static"},
    "half the width": {"hidden_size": 32},
    "one layer": {"num_hidden_layers": 1},
}


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    notes: str = option("Notes in the layout of MIMIC-III's NOTEEVENTS.csv.gz.")
    output: str = option("Directory for datasets, runs, reports and figures.")
    patients: int = option("How many patients, those with the least text.", 240, lowest=200)
    seeds: int = option("Trainings of each measure.", 2, lowest=1)
    arms: tuple[str, ...] = option("The measures; default: all.", tuple(ARMS))


def main(options: Options) -> None:
    """Prepare, train and audit each arm, and print the table."""
    output = Path(options.output)
    output.mkdir(exist_ok=True)
    notes = output / "notes.csv"
    if not notes.exists():
        write_notes(Path(options.notes), notes, options.patients)
    vocabulary = learned_vocabulary(Path(options.notes), output)
    base = prepared(notes, output, "base", vocabulary)
    every = round(EVERY * Manifest.load(base).splits["train"].num_examples / DUPE_FACTOR / BATCH_SIZE)
    steps = [round(passes / EVERY) * every for passes in PASSES]
    for seed in range(options.seeds):
        for arm in options.arms:
            data = prepared(notes, output, arm, vocabulary)
            run = output / f"{named(arm)}_{seed}"
            began = time.process_time()
            trained(data, run, ARMS[arm], steps[-1], every, seed)
            print(f"{arm}, seed {seed}: trained in {time.process_time() - began:.0f} CPU seconds", flush=True)
            for step in ("best", *map(str, steps)):
                file, best = (output / f"{run.name}_{name}.json" for name in (step, "best"))
                if not file.exists() and not (best.exists() and json.loads(best.read_text())["step"] == int(step)):
                    began = time.process_time()
                    figures = measured(run, data, base, output, step)
                    file.write_text(json.dumps(figures | {"arm": arm, "seed": seed, "is_best": step == "best"}) + "\n")
                    print(f"{file.stem}: {figures}, {time.process_time() - began:.0f} CPU seconds", flush=True)

    print(table(output, every))


def table(output: Path, every: int) -> str:
    """All figures of a directory: held-out MLM loss, AUC by patient with its 95 % interval, and median exposures."""
    lines = [
        "| measure | seed | passes | held-out MLM loss | AUC by patient | exposure 1, 4, 16, 64 |",
        "|---" * 6 + "|",
    ]
    found = [json.loads(file.read_text()) for file in output.glob("*_*.json") if not file.name.startswith("data_")]
    for one in sorted(found, key=lambda one: (list(ARMS).index(one["arm"]), one["seed"], one["step"])):
        auc = one["auc"]
        bits = (one["median_exposure"][repeats] for repeats in ("1", "4", "16", "64"))
        cells = (
            one["arm"],
            one["seed"],
            f"{one['step'] / every * EVERY:g}" + (", best" if one["is_best"] else ""),
            f"{one['mlm_loss']['value']:.2f}",
            f"{auc['value']:.2f} [{auc['low']:.2f}, {auc['high']:.2f}]",
            ", ".join("–" if bit is None else f"{bit:.1f}" for bit in bits),
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def write_notes(source: Path, target: Path, patients: int) -> None:
    """The notes of the patients with the least text, and copies of those of every other one."""
    csv.field_size_limit(2**31 - 1)
    by_patient: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["ISERROR"] != "1" and row["TEXT"].strip():
                by_patient[row["SUBJECT_ID"]].append(row)
    shortest = sorted(by_patient, key=lambda one: (sum(len(row["TEXT"]) for row in by_patient[one]), one))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("patient", "text"))
        for number, patient in enumerate(sorted(shortest[:patients])):
            for row in by_patient[patient]:
                text = row["TEXT"][:CHARACTERS].rsplit(maxsplit=1)[0]
                copies = [f"{text}\nReviewed {copy + 1} times." for copy in range(COPIES if number % 2 else 0)]
                writer.writerows((patient, one) for one in (text, *copies))


def learned_vocabulary(notes: Path, output: Path) -> Path:
    """A dataset of all notes, for its vocabulary."""
    done = list((output / "vocabulary").glob("*/1.0.0"))
    config = PrepConfig(
        source=SourceConfig((str(notes),)),
        vocabulary=VocabularyConfig(train_vocab=True, vocab_size=4000),
        selection=SelectionConfig(salt_file=str(output / "salt")),
        dupe_factor=1,
    )
    return done[0] if done else prepare.run(config, output / "vocabulary", EngineConfig(num_workers=1))


def prepared(notes: Path, output: Path, arm: str, vocabulary: Path) -> Path:
    """The dataset of an arm; arms that differ in the model alone share one."""
    settings = {key: value for key, value in ARMS[arm].items() if key in ("masking", "near_duplicate_threshold")}
    name = named(arm) if settings else "base"
    config = PrepConfig(
        source=SourceConfig((str(notes),), text_column="text", patient_column="patient"),
        vocabulary=VocabularyConfig(vocab_file=str(vocabulary)),
        selection=SelectionConfig(validation_fraction=0.1, test_fraction=0.45, salt_file=str(output / "salt")),
        canary=CanaryConfig(56, canaries_file=str(output / f"data_{name}.json")),
        max_seq_length=LENGTH,
        dupe_factor=DUPE_FACTOR,
        **{"masking": "dynamic"} | settings,
    )
    done = list((output / f"data_{name}").glob("*/1.0.0"))
    return done[0] if done else prepare.run(config, output / f"data_{name}", EngineConfig(num_workers=1))


def trained(data: Path, run: Path, changes: dict[str, Any], steps: int, every: int, seed: int) -> None:
    """Train one model, or go on where it was stopped."""
    from clinicalbert_jax.training import pretrain, xla

    xla.configure()
    model = BASE | {key: value for key, value in changes.items() if key in BASE}
    config = Config(
        model=ModelConfig(
            hidden_size=model["hidden_size"],
            num_hidden_layers=model["num_hidden_layers"],
            num_attention_heads=2,
            intermediate_size=4 * model["hidden_size"],
            hidden_dropout_prob=model["dropout"],
            attention_probs_dropout_prob=model["dropout"],
            max_position_embeddings=LENGTH,
        ),
        optimizer=OptimizerConfig(learning_rate=3e-3, schedule="constant", warmup_steps=20),
        data=DataConfig(max_seq_length=LENGTH),
        train=TrainConfig(
            steps=steps,
            global_batch_size=BATCH_SIZE,
            dtype="float32",
            seed=seed,
            log_every=every,
            eval_every=every,
            checkpoint_every=every,
            keep_checkpoints=1000,
        ),
    )
    pretrain.pretrain(workdir.check_data(config, Manifest.load(data), data), data, run)


def measured(run: Path, data: Path, base: Path, output: Path, step: str) -> dict[str, Any]:
    """Held-out loss on the test patients of the base, AUC by patient, and exposures, of one checkpoint."""
    canaries = output / f"{data.parents[1].name}.json"
    document = heldout.evaluate([loading.find(str(run))], base, Manifest.load(base), "test", step)
    report = output / "report"
    command.run(
        command.Options(
            model=str(run),
            data_dir=str(data),
            output=str(report),
            canaries=str(canaries),
            step=step,
            maskings=2,
            overwrite=True,
        )
    )
    audit = json.loads((report / command.JSON_FILE).read_text())
    found = audit["membership"]["attacks"]["loss"]["patient"]
    return {
        "step": audit["step"],
        "mlm_loss": document["models"][0]["overall"]["mlm_loss"],
        "auc": found["all_text"]["auc"],
        "auc_of_own_text": found["own_text"] and found["own_text"]["auc"],
        "patients": audit["patients"],
        "smallest_visible_auc": audit["membership"]["smallest_visible_auc"],
        "median_exposure": {
            row["repeats"]: row["planted"] and row["planted"]["median"] for row in audit["canaries"]["by_repeats"]
        },
        "epsilon": audit["canaries"]["epsilon"],
    }


def named(arm: str) -> str:
    """An arm as a name of files."""
    return "".join(one if one.isalnum() else "_" for one in arm)


if __name__ == "__main__":
    cli.run(main, Options)
