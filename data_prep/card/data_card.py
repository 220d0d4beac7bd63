"""The data card: what a prepared dataset holds, as Markdown and as one HTML page that a person can look at.

It holds counts, category names and option values, and of the notes' words only those that at least `MIN_PATIENTS`
patients' notes hold. What is not known (an older manifest, a dataset without examples) is left out, not guessed.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.report import html
from clinicalbert_jax.report.html import Html
from data_prep.examples.pairs import NUM_SPECIALS
from data_prep.reading.spill import SPLITS
from data_prep.sharding.statistics import FILL_BINS, Statistics
from data_prep.wordpiece.vocabulary import MIN_PATIENTS

MARKDOWN_FILE = "data_card.md"
HTML_FILE = "data_card.html"
RUN_FILE = "run.json"  # time and memory, written beside the manifest
MAX_WORDS_SHOWN = 30


@dataclass
class Table:
    """Rows under a header; the first column names them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | int]]
    caption: str = ""


@dataclass
class Part:
    """A titled part of the card. Charts stand in the HTML only: the tables and texts say the same."""

    title: str
    texts: list[str] = field(default_factory=list)
    charts: list[Html] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def write(dataset_dir: Path, manifest: Manifest | None = None, statistics: Statistics | None = None) -> None:
    """Write `data_card.md` and `data_card.html` into `dataset_dir`.

    `manifest` None: the one in the directory. `statistics` is the sum over all buckets; its arrays by category are in
    the order of `manifest.categories`. Time and memory are those of `run.json` in the directory, if there is one.
    """
    manifest = manifest or Manifest.load(dataset_dir)
    statistics = statistics or Statistics.empty(len(manifest.categories))
    title = f"Data card: {manifest.name} {manifest.version}"
    texts = [_summary(manifest)]
    figures = _key_figures(manifest)
    parts = [
        _splits(manifest),
        _categories(manifest, statistics),
        _lengths(manifest, statistics),
        _next_sentence(manifest, statistics),
        _words(manifest, statistics),
        _drops(manifest),
        _time(manifest, dataset_dir),
        _options(manifest),
    ]
    parts = [part for part in parts if part.charts or part.tables]
    (dataset_dir / MARKDOWN_FILE).write_text(_markdown(title, texts, figures, parts), encoding="utf-8")
    sections = [
        html.Section(
            part.title,
            [
                *part.texts,
                *part.charts,
                *(html.table(table.header, table.rows, table.caption) for table in part.tables),
            ],
        )
        for part in parts
    ]
    page = html.page(title, sections, [*texts, html.figures(figures)])
    (dataset_dir / HTML_FILE).write_text(page, encoding="utf-8")


# --- what the card says


def _summary(manifest: Manifest) -> str:
    layout = manifest.layout
    casing = "uncased" if manifest.vocabulary.do_lower_case else "cased"
    rows = "one pair a row" if layout.kind == "padded" else f"up to {layout.max_sequences_per_row} pairs a row"
    masked = "masked in the files" if layout.masked else "masked by the loader as it reads"
    return (
        f"Sentence pairs for BERT pre-training, at most {layout.max_seq_length} tokens, {rows}, {masked}; "
        f"{casing} vocabulary of {manifest.vocabulary.size:,} pieces. "
        f"Prepared by clinicalbert_jax {manifest.project_version} with seed {manifest.seed}."
    )


def _key_figures(manifest: Manifest) -> dict[str, str]:
    splits = manifest.splits.values()
    places = sum(split.num_examples for split in splits) * manifest.layout.max_seq_length
    pairs, tokens = sum(split.num_pairs for split in splits), sum(split.num_tokens for split in splits)
    pieces = _total(manifest, "num_pieces")
    figures = {
        "Notes": f"{sum(split.num_notes for split in splits):,}",
        "Patients": f"{sum(split.num_patients for split in splits):,}",
        "Word pieces in the notes": _large(pieces),
        "Examples": f"{sum(split.num_examples for split in splits):,}",
        "Places filled": _percent(tokens, places),
        "Random next sentences": _percent(sum(split.num_random_next for split in splits), pairs),
        "Masked pieces": _percent(sum(split.num_predictions for split in splits), tokens - NUM_SPECIALS * pairs),
        "Unknown pieces": _percent(_total(manifest, "num_unknown_pieces"), pieces, digits=3),
    }
    if not manifest.layout.masked:
        del figures["Masked pieces"]
    return {name: value for name, value in figures.items() if value not in ("", "0")}


def _splits(manifest: Manifest) -> Part:
    part = Part("Splits", ["No patient is in two splits."])
    names = [name for name in SPLITS if name in manifest.splits]
    splits = [manifest.splits[name] for name in names]
    places = [split.num_examples * manifest.layout.max_seq_length for split in splits]
    pieces = [split.num_tokens - NUM_SPECIALS * split.num_pairs for split in splits]
    rows: list[list[str | int]] = [
        ["Notes", *(split.num_notes for split in splits)],
        ["Patients", *(split.num_patients for split in splits)],
        ["Shards", *(len(split.shards) for split in splits)],
        ["Examples", *(split.num_examples for split in splits)],
        ["Sentence pairs", *(split.num_pairs for split in splits)],
        ["Tokens", *(split.num_tokens for split in splits)],
        ["Places filled", *map(_percent, (split.num_tokens for split in splits), places)],
        ["Random next sentences", *(_percent(split.num_random_next, split.num_pairs, 2) for split in splits)],
    ]
    if manifest.layout.masked:
        shares = (_percent(split.num_predictions, whole, 2) for split, whole in zip(splits, pieces, strict=True))
        rows.append(["Masked pieces", *shares])
    part.tables.append(Table(("", *names), rows))
    overlaps = manifest.extra.get("overlap", {}).get("shares", {})
    if overlaps:
        words = manifest.extra["overlap"]["words_in_a_run"]
        table = [[name, f"{100 * share:.2f} %"] for name, share in overlaps.items()]
        part.tables.append(Table(("Overlap", "Share"), table, f"Runs of {words} words that stand in both splits"))
    return part


def _categories(manifest: Manifest, statistics: Statistics) -> Part:
    notes: Counter[str] = Counter()
    for split in manifest.splits.values():
        notes.update(split.notes_by_category)
    place = {category: number for number, category in enumerate(manifest.categories)}
    part = Part("Notes by category")
    ranked = [category for category, count in notes.most_common() if count]
    pieces = _counted(manifest, "pieces_by_category", keys=str)
    rows: list[list[str | int]] = []
    for category in ranked:
        at = place[category]
        rows.append(
            [
                *(_named(category), notes[category], pieces[category]),
                f"{pieces[category] / notes[category]:,.0f}",
                _ratio(pieces[category], int(statistics.words_C[at])),
                _percent(int(statistics.unknown_C[at]), pieces[category], digits=3),
            ]
        )
    if rows:
        part.charts += [
            html.bar_chart({_named(category): notes[category] for category in ranked}, "Notes"),
            html.bar_chart({_named(category): pieces[category] for category in ranked}, "Word pieces", _large),
        ]
        header = ("Category", "Notes", "Word pieces", "Pieces a note", "Pieces a word", "Unknown")
        part.tables.append(Table(header, rows))
    return part


def _lengths(manifest: Manifest, statistics: Statistics) -> Part:
    part = Part("Lengths and fill")
    rows: list[list[str | int]] = []
    for name, key in (("Note", "note_lengths"), ("Sentence", "sentence_lengths")):
        lengths = _counted(manifest, key)
        if not lengths:
            continue
        rows.append(
            [name, f"{_mean(lengths):,.1f}", *(f"{_quantile(lengths, share):,}" for share in (0.5, 0.9, 0.99, 1))]
        )
        if key == "note_lengths":
            edges, counts = _octaves(lengths)
            part.charts.append(html.histogram(edges, counts, "Notes by length", "pieces (log scale)", log_x=True))
        else:
            width = max(16, _quantile(lengths, 0.995))
            counts = [lengths[length] for length in range(1, width)]
            counts.append(sum(count for length, count in lengths.items() if length >= width))
            edges = [length - 0.5 for length in range(1, width + 2)]
            caption = f"Sentences by length; the last bar holds all of {width} pieces and more"
            part.charts.append(html.histogram(edges, counts, caption, "pieces", open_end=True))
    if rows:
        part.tables.append(
            Table(("", "Mean", "Median", "90 % within", "99 % within", "Longest"), rows, "Lengths in word pieces")
        )
    if statistics.row_fill.any():
        edges = [100 * bin / FILL_BINS for bin in range(FILL_BINS + 1)]
        part.charts.append(
            html.histogram(edges, statistics.row_fill.tolist(), "Rows by fill", "% of places with a token")
        )
        total, nearly = int(statistics.row_fill.sum()), int(statistics.row_fill[-2:].sum())
        part.texts.append(f"{_percent(nearly, total)} of the rows are at least 90 % full.")
    return part


def _next_sentence(manifest: Manifest, statistics: Statistics) -> Part:
    part = Part(
        "Next sentences",
        [
            "Half of the pairs should be random nexts, in each category too: where they are not, a model can "
            "guess the label from the kind of note."
        ],
    )
    rows: list[list[str | int]] = []
    for category, (true, random) in zip(manifest.categories, statistics.pairs_Cx2.tolist(), strict=True):
        if true + random:
            rows.append([_named(category), true + random, _percent(random, true + random)])
    rows.sort(key=lambda row: -int(row[1]))
    if rows:
        part.tables.append(Table(("Category", "Pairs", "Random next"), rows))
    fallbacks = _counted(manifest, "pairing", keys=str)
    if fallbacks:
        part.tables.append(Table(("What pairing met", "Times"), [[k, v] for k, v in fallbacks.most_common()]))
    return part


def _words(manifest: Manifest, statistics: Statistics) -> Part:
    pieces, words = _total(manifest, "num_pieces"), int(statistics.words_C.sum())
    part = Part("Vocabulary")
    shown = [(word, counts) for word, counts in statistics.words.items() if counts.patients >= MIN_PATIENTS]
    shown.sort(key=lambda item: (-item[1].occurrences * (item[1].pieces - 1), item[0]))
    if words:
        part.texts.append(f"A word takes {_ratio(pieces, words)} pieces in the mean.")
    if shown:
        part.texts.append(
            "The words below cost the most pieces beyond one each: with them in the vocabulary (--extend_vocab) notes "
            f"would be shorter. A word is named only if the notes of at least {MIN_PATIENTS} patients hold it."
        )
        rows: list[list[str | int]] = [
            [word, counts.pieces, counts.occurrences, counts.patients, counts.occurrences * (counts.pieces - 1)]
            for word, counts in shown[:MAX_WORDS_SHOWN]
        ]
        part.tables.append(
            Table(("Word", "Pieces", "Occurrences", "Patients", "Extra pieces"), rows, "Most split words")
        )
    if statistics.uncounted_patients and shown:
        part.texts.append(f"Counts of patients may be too low by up to {statistics.uncounted_patients:,}.")
    vocabulary = manifest.vocabulary
    part.tables.append(
        Table(
            ("Property", "Value"),
            [
                ["Entries", vocabulary.size],
                ["Casing", "uncased" if vocabulary.do_lower_case else "cased"],
                ["SHA-256", vocabulary.sha256],
            ],
        )
    )
    return part


def _drops(manifest: Manifest) -> Part:
    kept = sum(split.num_notes for split in manifest.splits.values())
    dropped = sum(manifest.drops.values())
    part = Part("Dropped notes")
    read = manifest.extra.get("num_notes_read", kept + dropped)
    part.texts.append(f"{read:,} notes were read, {kept:,} are in the dataset and {dropped:,} were dropped.")
    if read != kept + dropped:
        part.texts.append(f"{abs(read - kept - dropped):,} notes are not accounted for: please report this as a bug.")
    ranked = sorted(((reason, count) for reason, count in manifest.drops.items() if count), key=lambda item: -item[1])
    if ranked:
        part.charts.append(html.bar_chart(dict(ranked), "Dropped notes by reason"))
    rows: list[list[str | int]] = [[reason, count, _percent(count, read, 2)] for reason, count in ranked]
    part.tables.append(Table(("Reason", "Notes", "Of those read"), [*rows, ["kept", kept, _percent(kept, read, 2)]]))
    return part


def _time(manifest: Manifest, dataset_dir: Path) -> Part:
    part = Part("Time and memory")
    try:
        run = json.loads((dataset_dir / RUN_FILE).read_text())
    except FileNotFoundError:
        return part
    steps = run.get("seconds", {})
    whole = sum(steps.values())
    rows: list[list[str | int]] = [
        [name.capitalize(), _duration(seconds)] for name, seconds in Counter(steps).most_common()
    ]
    if whole:
        notes = manifest.extra.get("num_notes_read", sum(split.num_notes for split in manifest.splits.values()))
        rows.append(["In all", _duration(whole)])
        rows.append(["Notes read a minute", f"{60 * notes / whole:,.0f}"])
    if "peak_bytes" in run:
        rows.append(["Memory of the largest process, at its peak", f"{run['peak_bytes'] / 1e6:,.0f} MB"])
    if rows:
        part.tables.append(Table(("Step", "By the clock"), rows))
    stages = Counter(run.get("process_seconds_by_stage", {})).most_common()
    total = sum(seconds for _, seconds in stages)
    if total:
        part.charts.append(html.bar_chart(dict(stages), "Work on the buckets by stage, over all processes", _duration))
        shares = [[stage, _duration(seconds), _percent(seconds, total)] for stage, seconds in stages]
        part.tables.append(Table(("Stage", "Work, over all processes", "Share"), shares))
    return part


def _options(manifest: Manifest) -> Part:
    rows = [[name, json.dumps(value)] for name, value in sorted(manifest.options.items())]
    return Part("Options", tables=[Table(("Option", "Value"), rows)] if rows else [])


# --- figures from counts


def _counted(manifest: Manifest, key: str, keys: type = int) -> Counter[Any]:
    """A counter of the manifest's further statistics, over all splits."""
    total: Counter[Any] = Counter()
    for statistics in manifest.extra.get("statistics", {}).values():
        total.update({keys(name): count for name, count in statistics.get(key, {}).items()})
    return total


def _total(manifest: Manifest, key: str) -> int:
    return sum(statistics.get(key, 0) for statistics in manifest.extra.get("statistics", {}).values())


def _octaves(lengths: Mapping[int, int]) -> tuple[list[float], list[int]]:
    """Bins of half an octave: the lengths come rounded to two digits, which finer bins would show."""
    first, last = min(lengths).bit_length() - 1, max(lengths).bit_length()
    edges = [2 ** (half / 2) for half in range(2 * first, 2 * last + 1)]
    counts = [sum(count for length, count in lengths.items() if low <= length < high) for low, high in pairwise(edges)]
    return edges, counts


def _mean(lengths: Mapping[int, int]) -> float:
    return sum(length * count for length, count in lengths.items()) / sum(lengths.values())


def _quantile(lengths: Mapping[int, int], share: float) -> int:
    """The smallest length that at least `share` of all do not exceed."""
    needed, seen = share * sum(lengths.values()), 0
    for length, count in sorted(lengths.items()):
        seen += count
        if seen >= needed:
            return length
    return max(lengths)


def _percent(part: float, whole: float, digits: int = 1) -> str:
    return f"{100 * part / whole:.{digits}f} %" if whole else ""


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.2f}" if whole else ""


def _large(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * unit:
            return f"{value / unit:,.4g} {name}"
    return f"{value:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _named(category: str) -> str:
    return category or "(none given)"


# --- Markdown


def _markdown(title: str, texts: Sequence[str], figures: Mapping[str, str], parts: Sequence[Part]) -> str:
    lines = [f"# {_plain(title)}", ""]
    for text in texts:
        lines += [_plain(text), ""]
    lines += _markdown_table(Table(("Figure", "Value"), list(figures.items())))
    for part in parts:
        lines += [f"## {_plain(part.title)}", ""]
        for text in part.texts:
            lines += [_plain(text), ""]
        for table in part.tables:
            lines += [f"{_plain(table.caption)}:", ""] if table.caption else []
            lines += _markdown_table(table)
    return "\n".join(lines).rstrip() + "\n"


def _markdown_table(table: Table) -> list[str]:
    rows = [[f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in table.rows]
    rule = ["---"] + ["---:"] * (len(table.header) - 1)
    lines = [table.header, rule, *rows]
    return ["| " + " | ".join(_plain(cell) if line is not rule else cell for cell in line) + " |" for line in lines] + [
        ""
    ]


def _plain(text: str) -> str:
    """Text that Markdown takes for text."""
    text = " ".join(text.split())
    for character in "\\`*_[]<>|#":
        text = text.replace(character, "\\" + character)
    return text
