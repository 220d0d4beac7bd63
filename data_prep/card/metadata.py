"""What stands beside the shards: `manifest.json`, and the `dataset_info.json` and `features.json` of TFDS."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import clinicalbert_jax
from clinicalbert_jax.data import manifest
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.schema import Layout
from data_prep.overlap import splits
from data_prep.reading.spill import SPLITS, Spilled
from data_prep.sharding.shards import Built, Plan
from data_prep.wordpiece.vocabulary import MIN_PATIENTS


def shard_names(name: str, split: str, count: int) -> list[str]:
    """The names that TFDS expects of a split's shards."""
    return [f"{name}-{split}.tfrecord-{number:05d}-of-{count:05d}" for number in range(count)]


def make_manifest(plan: Plan, spilled: Spilled, built: Sequence[Built], fingerprint: dict[str, Any]) -> Manifest:
    """The manifest of a dataset; a bucket without examples has no shard."""
    config = plan.config
    drops = Counter(spilled.drops)
    for one in built:
        drops.update(one.drops)
    by_split = {split: [one for one in built if one.split == split] for split in SPLITS}
    return Manifest(
        name=config.name,
        version=config.version,
        project_version=clinicalbert_jax.__version__,
        vocabulary=manifest.Vocabulary(
            sha256=hashlib.sha256("".join(f"{token}\n" for token in plan.tokenizer.vocabulary).encode()).hexdigest(),
            size=len(plan.tokenizer.vocabulary),
            do_lower_case=plan.tokenizer.settings.do_lower_case,
        ),
        layout=config.example_layout,
        seed=config.seed,
        options=config.options(),
        categories=plan.categories,
        drops={_key(reason): count for reason, count in sorted(drops.items()) if count},
        splits={split: _split(config.name, split, parts) for split, parts in by_split.items() if parts},
        extra={
            "fingerprint": fingerprint,
            "formats": list(plan.formats),
            "min_patients_of_a_category": MIN_PATIENTS,
            "num_notes_read": spilled.num_read,
            "num_notes_with_undecodable_bytes": spilled.num_undecodable,
            "statistics": {
                split: _statistics(parts, config.example_layout) for split, parts in by_split.items() if parts
            },
            "overlap": _overlaps(by_split, plan.sample_one_in),
            "first_pass": {split: _first_passes(parts) for split, parts in by_split.items()},
        }
        | ({"canaries": _canaries(plan, by_split["train"])} if plan.canaries else {}),
    )


def _split(name: str, split: str, parts: list[Built]) -> manifest.Split:
    written = [part for part in parts if part.num_examples]
    files = shard_names(name, split, len(written))
    return manifest.Split(
        shards=tuple(
            manifest.Shard(file, part.num_examples, part.num_bytes, part.sha256)
            for file, part in zip(files, written, strict=True)
        ),
        num_examples=sum(part.num_examples for part in parts),
        num_pairs=sum(part.num_pairs for part in parts),
        num_tokens=sum(part.num_tokens for part in parts),
        num_predictions=sum(part.num_predictions for part in parts),
        num_random_next=sum(part.num_random_next for part in parts),
        num_notes=sum(part.num_notes for part in parts),
        num_patients=sum(part.num_patients for part in parts),
        notes_by_category=_summed(part.notes_by_category for part in parts),
    )


def _statistics(parts: list[Built], layout: Layout) -> dict[str, Any]:
    """Figures of a split beyond those that the trainer needs. Shares are None where there is nothing to
    fraction.
    """

    def fraction(part: int, whole: int) -> float | None:
        return round(part / whole, 6) if whole else None

    num_pieces = sum(part.num_pieces for part in parts)
    num_pairs = sum(part.num_pairs for part in parts)
    num_tokens = sum(part.num_tokens for part in parts)
    missed_by_pass = np.array([part.pieces_missed for part in parts]).sum(axis=0)
    return {
        "fill": fraction(num_tokens, sum(part.num_examples for part in parts) * layout.max_seq_length),
        "random_next_fraction": fraction(sum(part.num_random_next for part in parts), num_pairs),
        "prediction_fraction": fraction(sum(part.num_predictions for part in parts), num_tokens - 3 * num_pairs),
        "num_pieces": num_pieces,
        "num_unknown_pieces": sum(part.num_unknown_pieces for part in parts),
        "num_sentences": sum(part.num_sentences for part in parts),
        "least_fraction_of_pieces_in_a_pass": fraction(num_pieces - int(missed_by_pass.max(initial=0)), num_pieces),
        "pieces_by_category": _summed(part.pieces_by_category for part in parts),
        "sentence_lengths": _summed(part.sentence_lengths for part in parts),
        "note_lengths": _summed(part.note_lengths for part in parts),
        "pairing": {_key(what): count for what, count in _summed(part.pairing for part in parts).items()},
    }


def _first_passes(parts: list[Built]) -> list[dict[str, int]]:
    """For each shard its bucket and the rows of its first pass, by which an audit finds these among all rows."""
    return [{"bucket": part.number, "rows": part.rows_of_passes[0]} for part in parts if part.num_examples]


def _canaries(plan: Plan, parts: list[Built]) -> dict[str, Any]:
    """How many canaries there are; which, only the private file says."""
    assert plan.canaries is not None
    planted = [number for number, one in enumerate(plan.canaries.candidates) if one.is_planted]
    return {
        "form": plan.config.canary.canary_form,
        "candidates": len(plan.canaries.candidates),
        "planted": len(planted),
        "sentences": sum(part.canary_places[number] for part in parts for number in planted),
    }


def _key(words: str) -> str:
    return re.sub(r"\W+", "_", words).strip("_")


def _summed(counters: Iterable[Counter[Any]]) -> dict[str, int]:
    total: Counter[Any] = Counter()
    for counter in counters:
        total.update(counter)
    return {str(key): total[key] for key in sorted(total)}


def _overlaps(by_split: dict[str, list[Built]], one_in: int) -> dict[str, Any]:
    """The fraction of runs of 13 words of a held-out split that stand in another split too, by a sample."""
    samples = {
        split: np.unique(np.array([run for part in parts for run in part.runs], np.uint64))
        for split, parts in by_split.items()
        if parts
    }
    pairs = (("validation", "train"), ("test", "train"), ("test", "validation"))
    fractions = {
        f"{part}_in_{whole}": round(splits.fraction(samples[part], samples[whole]), 6)
        for part, whole in pairs
        if part in samples and whole in samples
    }
    return {"words_in_a_run": splits.WORDS_IN_A_RUN, "sampled_one_in": one_in, "fractions": fractions}


def write_tfds(directory: Path, document: Manifest) -> None:
    """Write the files by which `tfds.builder_from_directory(directory)` opens the dataset; needs no
    TensorFlow.
    """
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(dataset_name=document.name, data_dir=directory, filetype_suffix="tfrecord")
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=tfds.features.FeaturesDict(
            {
                name: tfds.features.Tensor(shape=(feature.length,), dtype=np.dtype(feature.dtype).type)
                for name, feature in document.layout.features().items()
            }
        ),
        split_infos=[
            tfds.core.SplitInfo(
                name=name,
                shard_lengths=[shard.num_examples for shard in split.shards],
                num_bytes=sum(shard.num_bytes for shard in split.shards),
                filename_template=template.replace(split=name),
            )
            for name, split in document.splits.items()
            if split.shards
        ],
        version=document.version,
        check_data=False,
        description="Masked sentence pairs for BERT pre-training; see manifest.json.",
    )


def summary(manifest: Manifest) -> str:
    """A short table of counts: a line a split, and what was dropped and why."""
    lines = [f"{'split':<12}{'patients':>10}{'notes':>12}{'examples':>12}{'random next':>13}{'fill':>8}{'masked':>9}"]
    for name in [name for name in SPLITS if name in manifest.splits]:
        split = manifest.splits[name]
        statistics = manifest.extra["statistics"][name]
        fractions = [statistics[key] for key in ("random_next_fraction", "fill", "prediction_fraction")]
        random_next, fill, masked = ("-" if fraction is None else f"{fraction:.1%}" for fraction in fractions)
        lines.append(
            f"{name:<12}{split.num_patients:>10,}{split.num_notes:>12,}{split.num_examples:>12,}"
            f"{random_next:>13}{fill:>8}{masked:>9}"
        )
    dropped = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in manifest.drops.items()) or "none"
    lines.append(f"notes read: {manifest.extra['num_notes_read']:,}; dropped: {dropped}")
    return "\n".join(lines)
