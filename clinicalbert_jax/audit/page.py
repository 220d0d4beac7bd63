"""The report of an audit as a page, and as a section of the model card: for someone who decides whether to share.

It holds figures only: no text of a note, no identifier, and no secret of a canary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from clinicalbert_jax.audit.findings import ALPHAS, LOSS, RATIO
from clinicalbert_jax.report import html
from clinicalbert_jax.report.number_formats import count, interval, percent
from clinicalbert_jax.report.table import Table

Document = Mapping[str, Any]

NOT_AUDITED = "Not audited: nobody has measured what it memorised. Run `python -m clinicalbert_jax.audit`."

_ATTACKS = {LOSS: "loss", RATIO: "likelihood ratio"}
_TEXTS = {"all_text": "all text", "own_text": "text no other patient has"}
_THREAT = (
    "The attacker has the weights, and text that may or may not be of a patient whose notes were trained on. The "
    "question is whether the model's losses on masked tokens tell which. The attacker has not the training data, and "
    "asks about patients one at a time."
)
_NOT_TESTED = (
    "Not tested: whole notes as a unit, since shards do not tell where one ends; reconstruction of text by sampling; "
    "attacks that train models of their own on like notes; attacks on models fine-tuned from this one; what "
    "relatives or staff, who are named in notes, have to fear. A clean report is no proof: it says that these attacks, "
    "with so many patients, saw nothing."
)


def page(document: Document) -> str:
    """The whole page."""
    sections = [
        html.Section("What was asked", [_THREAT, _unit(document), _NOT_TESTED]),
        html.Section("Membership", _membership(document)),
        html.Section("Planted secrets", _canaries(document["canaries"])),
        html.Section("Names and conditions", _names(document)),
        html.Section("What this audit could have seen", _power(document)),
        html.Section("What was audited", [_hashes(document)]),
    ]
    return html.page(f"Privacy audit: {document['data']}", sections, sentences(document))


def section(document: Document | None) -> str:
    """The section of a model card, in Markdown."""
    if document is None:
        return f"## Privacy audit\n\n{NOT_AUDITED}\n"
    lines = ["## Privacy audit", *sentences(document), f"{_THREAT} {_unit(document)}", _NOT_TESTED]
    lines += [_attacks(document).markdown().rstrip(), *_power(document)]
    lines.append(f"Model {document['model_sha256'][:16]}, data {document['shards_sha256'][:16]} (SHA-256).")
    return "\n\n".join(lines) + "\n"


def sentences(document: Document) -> list[str]:
    """The findings in words."""
    found = [_finding_of_membership(document)]
    canaries = document["canaries"]
    if canaries:
        rows = [row for row in canaries["by_repeats"] if row["planted"]]
        most = max(rows, key=lambda row: row["planted"]["median"], default=None)
        if most:
            found.append(
                f"Of planted secrets, those repeated {most['repeats']} times had a median exposure of "
                f"{most['planted']['median']:.1f} bits of {canaries['ceiling_bits']:.1f} that could be measured; 1 bit "
                "is what a secret has by chance that the model never saw."
            )
        if bound := canaries["epsilon"]:
            found.append(
                f"Against one sentence in one note, the model's training has an epsilon of at least "
                f"{bound['epsilon']:.2f} (delta {bound['delta']:g}, 95 % confidence, from {bound['right']} right of "
                f"{bound['guesses']} guesses). It says nothing of how large epsilon is at most."
            )
    names = document["names"]
    if names:
        estimate = names["own_above_others"]
        verdict = "raises" if estimate["low"] > 0.5 else "was not seen to raise"
        found.append(
            f"A listed person's name {verdict} the probability of the person's own condition above others': "
            f"{interval(estimate)}, where 0.5 is chance."
        )
    return found


def _finding_of_membership(document: Document) -> str:
    attack = document["membership"]["strongest"]
    found = document["membership"]["attacks"][attack]["patient"]["all_text"]
    auc = found["auc"]
    verdict = (
        "tells patients it was trained on from others"
        if auc["low"] > 0.5
        else "was not seen to tell patients it was trained on from others"
    )
    stronger = ", the stronger of two attacks" if len(document["membership"]["attacks"]) > 1 else ""
    return (
        f"The model {verdict}: by {_ATTACKS[attack]}{stronger}, a patient of the training notes looks more like "
        f"one than another patient does with probability {interval(auc)}, where 0.5 is chance."
    )


def _unit(document: Document) -> str:
    patients, settings = document["patients"], document["settings"]
    each = {"patients": "patient", "documents": "document"}[document["unit"]]
    return (
        f"The unit is a {each}: {count(patients['members'])} of the training split and "
        f"{count(patients['non_members'])} of the test split, up to {settings['windows']} windows of text of each, "
        f"masked {settings['maskings']} times. Which split a patient is in was decided by a hash. Intervals hold 95 % "
        f"and are over {document['unit']}."
    )


def _membership(document: Document) -> list[html.Block]:
    found = document["membership"]
    name = _ATTACKS[found["strongest"]]
    blocks: list[html.Block] = [
        _attacks(document),
        html.line_chart(
            {_ATTACKS[attack]: [tuple(point) for point in points] for attack, points in found["roc"].items()}
            | {"chance": [(0.001, 0.001), (0.01, 0.01), (0.1, 0.1), (1.0, 1.0)]},
            "Patients found, by patients wrongly taken for members",
            "false-positive rate",
            "true-positive rate",
            log_x=True,
            log_y=True,
        ),
        f"{percent(found['fraction_of_shared_windows'])} of the windows share a run of 13 words with another patient's "
        "notes, of either split: without them, only what is a patient's own is scored.",
    ]
    subsets: dict[str, list[tuple[str, Document]]] = {
        "note category": list(found["by_category"].items()),
        "tokens of the window": [(f"{row['from_tokens']} to {row['to_tokens']}", row) for row in found["by_length"]],
        "places of its text in training notes": [(_times(row), row) for row in found["by_times"]],
    }
    for title, rows in subsets.items():
        if rows:
            table = [[label or "(none)", interval(row["auc"])] for label, row in rows]
            blocks.append(Table((title, "AUC"), table, f"By {name}, of pairs"))
    exposed: list[list[str | int]] = [[rank, percent(rate)] for rank, rate in enumerate(found["most_exposed"], 1)]
    blocks.append(
        Table(
            ("rank", "others that look as much like members"),
            exposed,
            "The patients of the training split who are most exposed",
        )
    )
    return blocks


def _attacks(document: Document) -> Table:
    rows = []
    for attack, units in document["membership"]["attacks"].items():
        for unit, texts in units.items():
            for text, result in texts.items():
                shown = ["too few patients"] + ["–"] * len(ALPHAS) if result is None else _figures(result)
                rows.append([_ATTACKS[attack], unit, _TEXTS[text], *shown])
    rates = [f"found at {percent(alpha, digits=1)} false positives" for alpha in ALPHAS]
    return Table(("attack by", "unit", "text", "AUC", *rates), rows)


def _figures(result: Document) -> list[str]:
    rates = [result["true_positive_rate"][str(alpha)] for alpha in ALPHAS]
    return [interval(result["auc"]), *("cannot be measured here" if rate is None else interval(rate) for rate in rates)]


def _times(row: Document) -> str:
    low, high = row["from_times"], row["to_times"]
    return str(low) if low == high else f"{low} and more" if high is None else f"{low} to {high}"


def _canaries(found: Document | None) -> Sequence[html.Block]:
    if not found:
        return [
            "Not tested: the training notes hold no planted secrets (data_prep --canaries), so that neither exposure "
            "nor a bound on epsilon can be measured."
        ]
    rows, lines = found["by_repeats"], {}
    for name, key in (("planted", "planted"), ("left out", "left_out")):
        lines[f"{name}, median"] = [(row["repeats"], row[key]["median"]) for row in rows if row[key]]
    lines["ceiling"] = [(row["repeats"], found["ceiling_bits"]) for row in rows]
    table = [
        [
            row["repeats"],
            *(
                f"{row[key]['median']:.1f} ({row[key]['count']})" if row[key] else "–"
                for key in ("planted", "left_out")
            ),
            "–" if row["auc"] is None else interval(row["auc"]),
        ]
        for row in rows
    ]
    blocks: list[html.Block] = [
        f"Invented secrets, each planted or left out by a coin: {found['audited']:,} candidates, and "
        f"{found['not_audited']:,} more that could not be placed. Exposure is the rank of a secret, by the probability "
        f"the model gives it alone, among {found['alternatives']:,} others of its form, a sample: at most "
        f"{found['ceiling_bits']:.1f} bits can be measured.",
        html.line_chart(lines, "Exposure by repeats", "notes that hold the secret", "bits", log_x=True),
        Table(
            ("repeats", "exposure if planted (how many)", "if left out (how many)", "AUC against those left out"),
            table,
            "Median exposure in bits",
        ),
    ]
    if bound := found["epsilon"]:
        blocks.append(
            f"Lower bound on epsilon from {bound['canaries']:,} candidates for one place (one-run auditing, Steinke et "
            f"al. 2023; the unit is one sentence in one note): {bound['epsilon']:.2f} at delta {bound['delta']:g}. A "
            "claim of a smaller epsilon would be refuted."
        )
    for name, one in (found.get("condition_of_name") or {}).items():
        if one:
            blocks.append(
                f"Own condition above others', {name.replace('_', ' ')}: {interval(one['own_above_others'])} over "
                f"{one['people']:,} invented names."
            )
    return blocks


def _exposure(summary: Document | None) -> str:
    return f"{summary['median']:.1f} ({summary['count']})" if summary else "–"


def _names(document: Document) -> Sequence[html.Block]:
    found = document["names"]
    if not found:
        return ["Not tested: no list of names and conditions was given (--names)."]
    return [
        f"{found['people']:,} listed people and {found['conditions']:,} conditions. For each, how often the name "
        "raises its own condition above another one, beyond how likely each condition is after other names: "
        f"{interval(found['own_above_others'])}, where 0.5 is chance."
    ]


def _power(document: Document) -> list[str]:
    found = [
        f"With so many patients, an AUC of {document['membership']['smallest_visible_auc']:.3f} would have been seen "
        "four times out of five; a weaker leak may be there."
    ]
    if document["canaries"]:
        found.append(
            "A shift of the exposure of secrets planted once by "
            f"{document['canaries']['smallest_visible_bits']:.2f} bits would have been seen four times out of five."
        )
    return found


def _hashes(document: Document) -> Table:
    rows = [
        ["dataset", document["data"]],
        ["SHA-256 of the shards", document["shards_sha256"]],
        ["SHA-256 of the model", document["model_sha256"]],
        ["step", "–" if document["step"] is None else f"{document['step']:,}"],
        ["started from", document["started_from"] or "random weights"],
        ["SHA-256 of the reference", document["reference_sha256"] or "none given"],
        ["clinicalbert_jax", document["project_version"]],
    ]
    return Table(("what", "value"), rows)
