"""One bucket of notes to one shard of examples: a pure function of the bucket's file and the settings.

Notes are sorted before anything is drawn, and every draw is keyed by (seed, split, bucket, pass, row): so the
bytes do not depend on who builds a bucket, or when.

Shape legend: T pieces, D documents, N pairs, R rows, K `max_sequences_per_row`, L, P as in `schema`.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng, manifest, masking, tfrecord
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.patients import patient_group
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.report.suppression import OTHER
from data_prep.canaries import planting
from data_prep.canaries.planting import Canaries
from data_prep.config import PrepConfig
from data_prep.examples import packing, pairs
from data_prep.overlap import downstream, near_duplicates, splits
from data_prep.reading.spill import SPLITS, Bucket, Note, load_bucket
from data_prep.sharding.statistics import PieceKinds, Statistics
from data_prep.text import cleaning, sentences
from data_prep.wordpiece.tokenizer import TokenizedNotes, Tokenizer, tokenize

HOLDS_EXCLUDED = "holds text of --exclude_text"  # the reason for which a note is dropped

_ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class Plan:
    """What all buckets of a dataset share."""

    config: PrepConfig
    tokenizer: Tokenizer
    categories: tuple[str, ...]
    excluded_S: npt.NDArray[np.uint64]  # shingles of `--exclude_text`
    sample_one_in: int  # of the runs of words by which overlaps between splits are found
    salt: bytes = field(repr=False)  # private: keys buckets and `patient_group`
    formats: tuple[str, ...] = ()  # of the sources, as they were found
    canaries: Canaries | None = None


@dataclass
class Built:
    """What a bucket gave; counts are over all passes, except those of notes, patients, sentences and pieces."""

    split: str
    number: int
    num_examples: int = 0
    num_bytes: int = 0
    sha256: str = ""
    num_pairs: int = 0
    num_tokens: int = 0
    num_predictions: int = 0
    num_random_next: int = 0
    num_notes: int = 0
    num_patients: int = 0
    num_pieces: int = 0  # of the notes kept, in one pass
    num_unknown_pieces: int = 0
    num_sentences: int = 0
    pieces_missed: list[int] = field(default_factory=list)  # in each pass: those that stand in no example
    drops: Counter[str] = field(default_factory=Counter)
    pairing: Counter[str] = field(default_factory=Counter)
    notes_by_category: Counter[str] = field(default_factory=Counter)
    pieces_by_category: Counter[str] = field(default_factory=Counter)
    sentence_lengths: Counter[int] = field(default_factory=Counter)  # in pieces
    note_lengths: Counter[int] = field(default_factory=Counter)  # in pieces, to two significant digits
    rows_of_passes: list[int] = field(default_factory=list)  # before they were shuffled: those of each pass in turn
    canary_places: Counter[int] = field(default_factory=Counter)  # by the number of the candidate
    canary_names_met: list[int] = field(default_factory=list)  # candidates whose invented name is in the notes
    runs: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # by stage; the only part that varies


def build(spill_file: Path, bucket: Bucket, plan: Plan, path: Path) -> tuple[Built, Statistics]:
    """Write the shard of a bucket to `path` (and its index beside it), and say what is in it."""
    built = Built(bucket.split, bucket.number)
    clock = _Clock(built.seconds)
    notes = cleaned_notes(spill_file, plan, built.drops, clock)
    documents = tokenized(notes, plan, built.drops, clock)
    continues_T = plan.tokenizer.is_continuation()[documents.ids_T]
    built.runs = splits.sample(documents, continues_T, plan.sample_one_in).tolist()
    clock.lap("overlaps")
    _count_notes(built, documents, plan)
    kinds = PieceKinds.of(plan.tokenizer.vocabulary)
    statistics = Statistics.of_bucket(documents, kinds, len(plan.categories))
    clock.lap("statistics")
    if plan.canaries is not None:
        built.canary_names_met = planting.names_met([note.text for note in notes], plan.canaries.candidates)
        if bucket.split == "train":
            documents, built.canary_places = planting.plant(documents, plan.canaries, plan.tokenizer)
            continues_T = plan.tokenizer.is_continuation()[documents.ids_T]
        clock.lap("canaries")
    key = _key(plan.config.seed, bucket.split, bucket.number)
    batches = _batches(documents, continues_T, plan, key, built, statistics, clock)
    features = plan.config.example_layout.features()
    built.num_examples = tfrecord.write_shard(path, batches, features)
    clock.lap("records")
    built.num_unknown_pieces = int(statistics.unknown_C.sum())
    built.num_pairs, built.num_random_next = int(statistics.pairs_Cx2.sum()), int(statistics.pairs_Cx2[:, 1].sum())
    built.num_bytes, built.sha256 = path.stat().st_size, manifest.sha256_of(path)
    clock.lap("checksums")
    return built, statistics


def rows_of_first_pass(manifest: Manifest, split: str, shard: int) -> npt.NDArray[np.int64]:
    """Which rows of a shard are of the first pass over its notes: every split has such a pass, and every text is in it.

    Raises `UserError` for a dataset that does not say how many they are.
    """
    recorded = manifest.extra.get("first_pass", {}).get(split, [])
    if shard >= len(recorded):
        raise UserError(
            "--data_dir: expected a dataset that records its passes, found one of an earlier version: prepare the data "
            "again, with the same options and salt, which gives the same shards, and name that directory"
        )
    num_rows = manifest.splits[split].shards[shard].num_examples
    order_R = _order(_key(manifest.seed, split, recorded[shard]["bucket"]), num_rows)
    return np.flatnonzero(order_R < recorded[shard]["rows"])


def _key(seed: int, split: str, bucket: int) -> counter_rng.Keys:
    return counter_rng.fold(seed, SPLITS.index(split), bucket)


def _order(key: counter_rng.Keys, num_rows: int) -> npt.NDArray[np.int64]:
    """The rows of all passes, one pass after the other, in the order in which they are written."""
    return np.argsort(counter_rng.fold(key, 2, np.arange(num_rows)), kind="stable")


def cleaned_notes(spill_file: Path, plan: Plan, drops: Counter[str], clock: "_Clock | None" = None) -> list[Note]:
    """The notes of a bucket that are kept, cleaned and in order."""
    config, clock = plan.config, clock or _Clock({})
    notes = load_bucket(spill_file)
    clock.lap("read")
    kept_N = near_duplicates.keep(
        [note.patient_id for note in notes], [note.text for note in notes], config.near_duplicate_threshold
    )
    drops["near-duplicate of an earlier note of the patient"] += int((~kept_N).sum())
    notes = [note for note, kept in zip(notes, kept_N, strict=True) if kept]
    clock.lap("near_duplicates")
    if plan.excluded_S.size:
        held = [downstream.holds_any(note.text, plan.excluded_S) for note in notes]
        drops[HOLDS_EXCLUDED] += sum(held)
        notes = [note for note, drop in zip(notes, held, strict=True) if not drop]
        clock.lap("leakage")
    by_line = config.source.input_format == "sentences"
    cleaned = [
        Note(n.row_id, n.patient_id, n.time, n.category, cleaning.clean(n.text, config.deid_policy, keep_lines=by_line))
        for n in notes
    ]
    clock.lap("cleaning")
    return cleaned


def tokenized(notes: list[Note], plan: Plan, drops: Counter[str], clock: "_Clock") -> TokenizedNotes:
    """The notes as ids; those of which cleaning left nothing are dropped."""
    config = plan.config
    split = sentences.split_lines if config.source.input_format == "sentences" else sentences.split
    documents = [split(note.text) for note in notes]
    number_of = {category: number for number, category in enumerate(plan.categories)}
    clock.lap("sentences")
    result = tokenize(
        plan.tokenizer,
        documents,
        [patient_group(note.patient_id, plan.salt) for note in notes],
        [number_of.get(note.category, number_of.get(OTHER, 0)) for note in notes],
    )
    drops["nothing left after cleaning"] += len(notes) - len(result.patient_D)
    clock.lap("tokenization")
    return result


def _count_notes(built: Built, notes: TokenizedNotes, plan: Plan) -> None:
    sentence_lengths_S = np.diff(notes.sentence_offsets)
    note_lengths_D = np.diff(notes.sentence_offsets[notes.document_offsets])
    built.num_notes, built.num_patients = len(notes.patient_D), len(np.unique(notes.patient_D))
    built.num_pieces, built.num_sentences = len(notes.ids_T), len(sentence_lengths_S)
    for category, length in zip(notes.category_D.tolist(), note_lengths_D.tolist(), strict=True):
        built.notes_by_category[plan.categories[category]] += 1
        built.pieces_by_category[plan.categories[category]] += length
    built.sentence_lengths.update(sentence_lengths_S.tolist())
    scale_D = 10 ** np.maximum(np.floor(np.log10(np.maximum(note_lengths_D, 1))) - 1, 0).astype(np.int64)
    built.note_lengths.update((note_lengths_D // scale_D * scale_D).tolist())


def _batches(
    notes: TokenizedNotes,
    continues_T: npt.NDArray[np.bool_],
    plan: Plan,
    key: counter_rng.Keys,
    built: Built,
    statistics: Statistics,
    clock: "_Clock",
) -> Iterator[dict[str, npt.NDArray]]:
    """Examples of all passes, shuffled, as arrays by feature."""
    config, layout = plan.config, plan.config.example_layout
    id_of = plan.tokenizer.id_of
    specials = packing.Specials(id_of["[PAD]"], id_of["[CLS]"], id_of["[SEP]"])
    policy = masking.policy(
        list(plan.tokenizer.vocabulary),
        layout.max_predictions_per_seq,
        probability=config.masked_lm_prob,
        whole_word=config.whole_word_masking,
        google=config.pairing == "google",
    )
    passes: list[tuple[pairs.Pairs, packing.Placement]] = []
    # What is held out is scored once: more passes would only repeat each note under other masks.
    for number in range(config.dupe_factor if built.split == "train" else 1):
        made = pairs.make(notes, continues_T, config.pair_config, counter_rng.fold(key, 1, number), built.pairing)
        clock.lap("pairs")
        passes.append((made, _placed(made, config, policy)))
        clock.lap("packing")
        statistics.add_pairs(notes.category_D[made.a_document], made.label)
        built.pieces_missed.append(_pieces_missed(made, len(notes.ids_T)))
    built.rows_of_passes = [placement.num_rows for _, placement in passes]
    pass_R = np.repeat(np.arange(len(passes)), [placement.num_rows for _, placement in passes])
    row_R = np.concatenate([np.arange(placement.num_rows) for _, placement in passes])
    order_R = _order(key, len(pass_R))
    clock.lap("shuffling")
    every, placements = _together(passes)
    for start in range(0, len(order_R), _ROWS_AT_ONCE):
        wanted_R = order_R[start : start + _ROWS_AT_ONCE]
        arrays, pair_RxK = packing.rows(every, placements, wanted_R, notes.ids_T, layout, specials)
        tokens_R = (arrays["sequence_ids"] > 0).sum(axis=1)
        statistics.add_rows(tokens_R, layout.max_seq_length)
        built.num_tokens += int(tokens_R.sum())
        clock.lap("rows")
        if layout.masked:
            keys_R = counter_rng.fold(key, 3, pass_R[wanted_R], row_R[wanted_R])
            arrays |= masking.mask(keys_R, arrays["input_ids"], policy)._asdict()
            built.num_predictions += int(arrays["masked_lm_weights"].sum())
            clock.lap("masking")
        document_RxK = every.a_document[pair_RxK]
        arrays["note_category"] = np.where(pair_RxK >= 0, notes.category_D[document_RxK], 0)
        arrays["patient_group"] = np.where(pair_RxK >= 0, notes.patient_D[document_RxK], 0)
        if layout.kind == "padded":
            arrays["input_mask"] = arrays["sequence_ids"]
        clock.lap("rows")
        yield arrays
        clock.lap("records")


def _placed(made: pairs.Pairs, config: PrepConfig, policy: masking.Policy) -> packing.Placement:
    if config.layout == "padded":
        return packing.one_a_row(len(made.label))
    sizes_N = made.sizes()
    return packing.best_fit(
        sizes_N, masking.num_predictions(sizes_N - pairs.NUM_SPECIALS, policy), config.example_layout
    )


def _together(passes: list[tuple[pairs.Pairs, packing.Placement]]) -> tuple[pairs.Pairs, packing.Placement]:
    """The pairs of all passes as one list, and their rows: those of each pass after those of the one before."""
    num_before = np.cumsum([0] + [len(made.label) for made, _ in passes])
    every = pairs.Pairs(*(np.concatenate(columns) for columns in zip(*(made for made, _ in passes), strict=True)))
    offsets = [p.offsets_R[:-1] + before for (_, p), before in zip(passes, num_before[:-1], strict=True)]
    placements = packing.Placement(
        pair_N=np.concatenate([p.pair_N + before for (_, p), before in zip(passes, num_before[:-1], strict=True)]),
        offsets_R=np.append(np.concatenate(offsets), num_before[-1]),
        column_N=np.concatenate([p.column_N for _, p in passes]),
    )
    return every, placements


def _pieces_missed(made: pairs.Pairs, num_pieces: int) -> int:
    """How many of the bucket's pieces stand in no segment."""
    change = np.zeros(num_pieces + 1, np.int64)
    for start_N, end_N in ((made.a_start, made.a_end), (made.b_start, made.b_end)):
        change += np.bincount(start_N, minlength=num_pieces + 1) - np.bincount(end_N, minlength=num_pieces + 1)
    return int((np.cumsum(change)[:-1] == 0).sum())


class _Clock:
    """Adds the time since its last lap to a stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + now - self._last
        self._last = now
