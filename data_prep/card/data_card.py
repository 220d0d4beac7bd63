"""The data card: what a prepared dataset holds, as Markdown and as one HTML page that a person can look at.

Of the notes it names only words and categories that the notes of at least `MIN_PATIENTS` patients hold; counts of notes
and patients under 11 cannot be told from it (see `suppression`), and of the options it shows no path and no name from
the data. What is not known (an older manifest, a dataset without examples) is left out, not guessed.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from markupsafe import Markup

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.report import html, number_formats, suppression
from clinicalbert_jax.report.number_formats import duration, large, percent, ratio
from clinicalbert_jax.report.suppression import LEAST, MIN_PATIENTS, Shown
from clinicalbert_jax.report.table import Table, plain
from data_prep.examples.pairs import NUM_SPECIALS
from data_prep.reading.spill import SPLITS
from data_prep.sharding.statistics import FILL_BINS, Statistics

MARKDOWN_FILE = "data_card.md"
HTML_FILE = "data_card.html"
RUN_FILE = "run.json"  # time and memory: the one file of a dataset that differs from run to run
MAX_WORDS_SHOWN = 30

# Options whose text is shown: it names neither a path nor anything in the data.
_SHOWN_OPTIONS = ("name", "version", "encoding", "deid_policy", "input_format", "layout", "pairing", "masking")


@dataclass
class Part:
    """A titled part of the card. Charts stand in the HTML only: the tables and texts say the same."""

    title: str
    texts: list[str] = field(default_factory=list)
    charts: list[Markup] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def write(dataset_dir: Path, manifest: Manifest | None = None, statistics: Statistics | None = None) -> None:
    """Write `data_card.md` and `data_card.html` into `dataset_dir`.

    `manifest` None: the one in the directory. `statistics` is the sum over all buckets; its arrays by category are in
    the order of `manifest.categories`. Time and memory are those of `run.json` in the directory, if there is one.
    """
    manifest = manifest or Manifest.load(dataset_dir)
    statistics = statistics or Statistics.empty(len(manifest.categories))
    title = f"Data card: {manifest.name} {manifest.version}"
    texts = [_summary(manifest), *canaries_notice(manifest)]
    shown = suppression.of_manifest(manifest)
    figures = _key_figures(manifest, shown)
    parts = [
        _splits(manifest, shown),
        _categories(manifest, statistics, shown),
        _lengths(manifest, statistics, shown),
        _next_sentence(manifest, statistics),
        _words(manifest, statistics),
        _drops(manifest, shown),
        _time(dataset_dir, shown),
        _options(manifest),
    ]
    parts = [part for part in parts if part.charts or part.tables]
    (dataset_dir / MARKDOWN_FILE).write_text(_markdown(title, texts, figures, parts), encoding="utf-8")
    sections = [
        html.Section(
            part.title,
            [*part.texts, *part.charts, *part.tables],
        )
        for part in parts
    ]
    page = html.page(title, sections, [*texts, html.figures(figures)])
    (dataset_dir / HTML_FILE).write_text(page, encoding="utf-8")


# --- what the card says


def _summary(manifest: Manifest) -> str:
    layout = manifest.layout
    casing = "uncased" if manifest.vocabulary.do_lower_case else "cased"
    rows = "one pair per row" if layout.kind == "padded" else f"up to {layout.max_sequences_per_row} pairs per row"
    masked = "masked in the files" if layout.masked else "masked by the loader as it reads"
    return (
        f"Sentence pairs for BERT pre-training, at most {layout.max_seq_length} tokens, {rows}, {masked}; "
        f"{casing} vocabulary of {manifest.vocabulary.size:,} entries. "
        f"Prepared by clinicalbert_jax {manifest.project_version} with seed {manifest.seed}."
    )


def canaries_notice(manifest: Manifest) -> list[str]:
    """A sentence on the invented secrets among the notes, where there are some."""
    found = manifest.extra.get("canaries")
    if not found:
        return []
    return [
        f"For an audit of what models memorise, {found['sentences']:,} invented sentences were planted in training "
        f"notes: {found['planted']:,} of {found['candidates']:,} invented secrets, chosen by a coin each. They concern "
        "nobody. The counts of notes and words are those without them."
    ]


def _key_figures(manifest: Manifest, shown: Shown) -> dict[str, str]:
    splits = manifest.splits.values()
    positions = sum(split.num_examples for split in splits) * manifest.layout.max_seq_length
    pairs, tokens = sum(split.num_pairs for split in splits), sum(split.num_tokens for split in splits)
    pieces = _total(manifest, "num_pieces")
    figures = {
        "Notes": number_formats.count(shown["notes",]),
        "Patients": number_formats.count(shown["patients",]),
        "Tokens in the notes": large(pieces),
        "Examples": f"{sum(split.num_examples for split in splits):,}",
        "Non-padding fraction": percent(tokens, positions),
        "Random next sentences": percent(sum(split.num_random_next for split in splits), pairs),
        "Masked tokens": percent(sum(split.num_predictions for split in splits), tokens - NUM_SPECIALS * pairs),
        "Unknown tokens": percent(_total(manifest, "num_unknown_pieces"), pieces, digits=3),
    }
    if not manifest.layout.masked:
        del figures["Masked tokens"]
    return {name: value for name, value in figures.items() if value not in ("–", "0")}


def _splits(manifest: Manifest, shown: Shown) -> Part:
    part = Part("Splits", ["No patient is in two splits."])
    names = [name for name in SPLITS if name in manifest.splits]
    splits = [manifest.splits[name] for name in names]
    positions = [split.num_examples * manifest.layout.max_seq_length for split in splits]
    pieces = [split.num_tokens - NUM_SPECIALS * split.num_pairs for split in splits]
    rows: list[list[str | int]] = [
        ["Notes", *(shown["notes", name] for name in names)],
        ["Patients", *(shown["patients", name] for name in names)],
        ["Shards", *(len(split.shards) for split in splits)],
        ["Examples", *(split.num_examples for split in splits)],
        ["Sentence pairs", *(split.num_pairs for split in splits)],
        ["Tokens", *(split.num_tokens for split in splits)],
        ["Non-padding fraction", *map(percent, (split.num_tokens for split in splits), positions)],
        ["Random next sentences", *(percent(split.num_random_next, split.num_pairs, 2) for split in splits)],
    ]
    if manifest.layout.masked:
        fractions = (percent(split.num_predictions, whole, 2) for split, whole in zip(splits, pieces, strict=True))
        rows.append(["Masked tokens", *fractions])
    part.tables.append(Table(("", *names), rows))
    overlaps = manifest.extra.get("overlap", {}).get("fractions", {})
    if overlaps:
        words = manifest.extra["overlap"]["words_in_a_run"]
        table = [[_words_of(name), percent(fraction, digits=2)] for name, fraction in overlaps.items()]
        part.tables.append(Table(("Overlap", "Fraction"), table, f"Runs of {words} words that are in both splits"))
    return part


def _categories(manifest: Manifest, statistics: Statistics, shown: Shown) -> Part:
    place = {category: number for number, category in enumerate(manifest.categories)}
    part = Part("Notes by category")
    if not _may_name_categories(manifest):
        return part
    ranked = [category for category, count in suppression.notes_by_category(manifest).most_common() if count]
    tokens = _counted(manifest, "pieces_by_category", keys=str)
    rows: list[list[str | int]] = []
    for category in ranked:
        at, notes = place[category], shown["category", category]
        # Tokens and tokens per note would give the number of notes.
        figures = (
            [
                tokens[category],
                f"{tokens[category] / notes:,.0f}",
                ratio(tokens[category], int(statistics.words_C[at])),
                percent(int(statistics.unknown_C[at]), tokens[category], digits=3),
            ]
            if isinstance(notes, int)
            else [""] * 4
        )
        rows.append([_named(category), notes, *figures])
    if rows:
        notes_of = {category: notes for category in ranked if isinstance(notes := shown["category", category], int)}
        part.charts += [
            html.bar_chart({_named(category): notes for category, notes in notes_of.items()}, "Notes"),
            html.bar_chart({_named(category): tokens[category] for category in notes_of}, "Tokens", large),
        ]
        header = ("Category", "Notes", "Tokens", "Tokens per note", "Tokens per word", "Unknown")
        part.tables.append(Table(header, rows))
        part.texts.append(f"Categories of fewer than {MIN_PATIENTS} patients are one: other.")
    return part


def _may_name_categories(manifest: Manifest) -> bool:
    """Whether the preparation made one category of those of few patients."""
    return "min_patients_of_a_category" in manifest.extra


def _lengths(manifest: Manifest, statistics: Statistics, shown: Shown) -> Part:
    part = Part("Lengths and fill")
    rows: list[list[str | int]] = []
    for name, key in (("Note", "note_lengths"), ("Sentence", "sentence_lengths")):
        lengths = _counted(manifest, key)
        hidden = isinstance(shown["notes",], str) or lengths.total() < LEAST
        if not lengths or (key == "note_lengths" and hidden):
            continue
        rows.append(
            [name, f"{_mean(lengths):,.1f}", *(f"{_quantile(lengths, fraction):,}" for fraction in (0.5, 0.9, 0.99, 1))]
        )
        if key == "note_lengths":
            edges, counts = _of_many(*_octaves(lengths))
            part.charts.append(html.histogram(edges, counts, "Notes by length", "tokens (log scale)", log_x=True))
        else:
            width = max(16, _quantile(lengths, 0.995))
            counts = [lengths[length] for length in range(1, width)]
            counts.append(sum(count for length, count in lengths.items() if length >= width))
            edges = [length - 0.5 for length in range(1, width + 2)]
            caption = f"Sentences by length; the last bar holds all of {width} tokens and more"
            part.charts.append(html.histogram(edges, counts, caption, "tokens", open_end=True))
    if rows:
        part.tables.append(
            Table(("", "Mean", "Median", "90 % within", "99 % within", "Longest"), rows, "Lengths in tokens")
        )
    if statistics.row_fill.any():
        edges = [100 * bin / FILL_BINS for bin in range(FILL_BINS + 1)]
        part.charts.append(
            html.histogram(edges, statistics.row_fill.tolist(), "Rows by fill", "% of positions with a token")
        )
        total, nearly = int(statistics.row_fill.sum()), int(statistics.row_fill[-2:].sum())
        part.texts.append(f"{percent(nearly, total)} of the rows are at least 90% full.")
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
        if true + random and _may_name_categories(manifest):
            rows.append([_named(category), true + random, percent(random, true + random)])
    rows.sort(key=lambda row: -int(row[1]))
    if rows:
        part.tables.append(Table(("Category", "Pairs", "Random next"), rows))
    fallbacks = _counted(manifest, "pairing", keys=str)
    if fallbacks:
        counted = [(_words_of(what), count) for what, count in fallbacks.most_common()]
        rows = [[what, count if count >= LEAST else suppression.FEW] for what, count in counted]
        part.tables.append(Table(("What pairing met", "Times"), rows))
    return part


def _words(manifest: Manifest, statistics: Statistics) -> Part:
    pieces, words = _total(manifest, "num_pieces"), int(statistics.words_C.sum())
    part = Part("Vocabulary")
    shown = [(word, counts) for word, counts in statistics.words.items() if counts.patients >= MIN_PATIENTS]
    shown.sort(key=lambda item: (-item[1].occurrences * (item[1].pieces - 1), item[0]))
    if words:
        part.texts.append(f"A word takes {ratio(pieces, words)} tokens on average.")
    if shown:
        part.texts.append(
            "The words below cost the most tokens beyond one each: with them in the vocabulary (--extend_vocab) notes "
            f"would be shorter. A word is named only if it is in the notes of at least {MIN_PATIENTS} patients."
        )
        rows: list[list[str | int]] = [
            [word, counts.pieces, counts.occurrences, counts.patients, counts.occurrences * (counts.pieces - 1)]
            for word, counts in shown[:MAX_WORDS_SHOWN]
        ]
        part.tables.append(
            Table(("Word", "Tokens", "Occurrences", "Patients", "Extra tokens"), rows, "Most split words")
        )
    if statistics.uncounted_patients and shown:
        most = max(statistics.uncounted_patients, LEAST)
        part.texts.append(f"Counts of patients may be too low by up to {most:,}.")
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


def _drops(manifest: Manifest, shown: Shown) -> Part:
    part = Part("Dropped notes")
    read, kept, dropped = (shown[name,] for name in ("read", "notes", "dropped"))
    counts = map(number_formats.count, (read, kept, dropped))
    part.texts.append("Notes read: {}; in the dataset: {}; dropped: {}.".format(*counts))
    num_counted = sum(split.num_notes for split in manifest.splits.values()) + sum(manifest.drops.values())
    if manifest.extra.get("num_notes_read", num_counted) != num_counted:
        part.texts.append("Some notes are not accounted for: please report this as a bug.")
    reasons = [reason for reason, count in Counter(manifest.drops).most_common() if count]
    bars = {_words_of(reason): count for reason in reasons if isinstance(count := shown["dropped", reason], int)}
    if bars:
        part.charts.append(html.bar_chart(bars, "Dropped notes by reason"))
    rows: list[list[str | int]] = [[_words_of(reason), shown["dropped", reason]] for reason in reasons]
    rows.append(["kept", kept])
    for row in rows:
        both_shown = isinstance(row[1], int) and isinstance(read, int)
        row.append(percent(int(row[1]), int(read), 2) if both_shown else "")
    part.tables.append(Table(("Reason", "Notes", "Of those read"), rows))
    return part


def _time(dataset_dir: Path, shown: Shown) -> Part:
    part = Part("Time and memory")
    try:
        run = json.loads((dataset_dir / RUN_FILE).read_text())
    except FileNotFoundError:
        return part
    steps = run.get("seconds", {})
    whole = sum(steps.values())
    rows: list[list[str | int]] = [
        [name.capitalize(), duration(seconds)] for name, seconds in Counter(steps).most_common()
    ]
    if whole:
        rows.append(["Total", duration(whole)])
        if isinstance(notes := shown["read",], int):
            rows.append(["Notes read per minute", f"{60 * notes / whole:,.0f}"])
    if "peak_bytes" in run:
        rows.append(["Memory of the largest process, at its peak", f"{run['peak_bytes'] / 1e6:,.0f} MB"])
    if rows:
        part.tables.append(Table(("Step", "Wall-clock time"), rows))
    stages = Counter(run.get("process_seconds_by_stage", {})).most_common()
    total = sum(seconds for _, seconds in stages)
    if total:
        stages = [(_words_of(stage), seconds) for stage, seconds in stages]
        part.charts.append(html.bar_chart(dict(stages), "Work on the buckets by stage, over all processes", duration))
        fractions = [[stage, duration(seconds), percent(seconds, total)] for stage, seconds in stages]
        part.tables.append(Table(("Stage", "Work, over all processes", "Fraction"), fractions))
    return part


def _options(manifest: Manifest) -> Part:
    rows = [[name, _option(name, value)] for name, value in sorted(manifest.options.items())]
    return Part("Options", tables=[Table(("Option", "Value"), rows)] if rows else [])


def _option(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} given" if value else "none"
    if isinstance(value, str) and name not in _SHOWN_OPTIONS:
        return "given" if value else "none"
    return json.dumps(value)


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


def _of_many(edges: list[float], counts: list[int]) -> tuple[list[float], list[int]]:
    """The bins, each merged with the next ones until it holds `LEAST`; needs as many in all."""
    merged, total = [edges[0]], [0]
    for edge, count in zip(edges[1:], counts, strict=True):
        total[-1] += count
        if total[-1] >= LEAST:
            merged.append(edge)
            total.append(0)
    few = total.pop()
    total[-1] += few
    return [*merged[:-1], edges[-1]], total


def _mean(lengths: Mapping[int, int]) -> float:
    return sum(length * count for length, count in lengths.items()) / sum(lengths.values())


def _quantile(lengths: Mapping[int, int], fraction: float) -> int:
    """The smallest length that at least `fraction` of all do not exceed."""
    needed, seen = fraction * sum(lengths.values()), 0
    for length, count in sorted(lengths.items()):
        seen += count
        if seen >= needed:
            return length
    return max(lengths)


def _words_of(key: str) -> str:
    return key.replace("_", " ")


def _named(category: str) -> str:
    return category or "(none given)"


# --- Markdown


def _markdown(title: str, texts: Sequence[str], figures: Mapping[str, str], parts: Sequence[Part]) -> str:
    lines = [f"# {plain(title)}", ""]
    for text in texts:
        lines += [plain(text), ""]
    lines += [Table(("Figure", "Value"), list(figures.items())).markdown()]
    for part in parts:
        lines += [f"## {plain(part.title)}", ""]
        for text in part.texts:
            lines += [plain(text), ""]
        for table in part.tables:
            lines += [table.markdown()]
    return "\n".join(lines).rstrip() + "\n"
