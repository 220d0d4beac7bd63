"""The model card of an exported run: `README.md` for people, `pretraining.json` for `evaluate`. Counts, never text."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinicalbert_jax.audit import page as audit_page
from clinicalbert_jax.config import Config
from clinicalbert_jax.data.manifest import INVENTED, Manifest
from clinicalbert_jax.pretrained import huggingface
from clinicalbert_jax.report import card_header, suppression
from clinicalbert_jax.report.number_formats import count, interval, percent
from clinicalbert_jax.report.suppression import FEW, LEAST, Shown
from clinicalbert_jax.report.table import Table, plain
from clinicalbert_jax.runs import metrics_log, provenance, workdir

CARD_FILE = "README.md"

_TAGS = {
    "keep": "kept as they stand",
    "type": "replaced by one word for their kind",
    "remove": "removed",
}

_MIMIC = {"mimic_iii": "MIMIC-III", "mimic_iv": "MIMIC-IV-Note"}


def write(directory: Path, run: Path, step: int) -> None:
    """Write both files into `directory` from what lies in the run's directory beside its checkpoints."""
    config, manifest = workdir.read_config(run), workdir.manifest_of(run)
    evaluations = [
        provenance.read_json(run / provenance.EVALUATION_FILE.format(split=split)) for split in ("test", "validation")
    ]
    evaluation = next((document for document in evaluations if document and _is_of(document, step)), None)
    audited = provenance.read_json(run / provenance.AUDIT_FILE)
    audit = audited if audited and audited.get("step") == step else None
    text = card(config, manifest, step, metrics_log.read(run), evaluation, audit)
    (directory / CARD_FILE).write_text(text, encoding="utf-8")
    provenance.write(directory, config, manifest, step)


def card(
    config: Config,
    manifest: Manifest,
    step: int,
    metrics: Sequence[Mapping[str, Any]],
    evaluation: Mapping[str, Any] | None,
    audit: Mapping[str, Any] | None = None,
) -> str:
    """The card in Markdown. `metrics` are the run's records, `evaluation` and `audit` the JSON of those commands, if
    any.
    """
    shown = suppression.of_manifest(manifest)
    validation = [record for record in metrics if record.get("kind") == "validation" and record["step"] <= step]
    results = validation[-1] if validation else {}
    if evaluation is not None:
        results = {name: value["value"] for name, value in evaluation["models"][0]["overall"].items() if name in _NAMES}
    header = card_header.header(
        "BERT pre-trained on clinical notes",
        ["bert", "clinical", "medical"],
        {name: results.get(name) for name in _NAMES},
        task="fill-mask",
        dataset=manifest.name,
        split=evaluation["split"] if evaluation else "validation",
        base_model=config.init_from.removeprefix(huggingface.HUB) if huggingface.is_on_hub(config.init_from) else None,
    )
    sections = [
        header,
        _front(config, manifest),
        _data(manifest, shown),
        _recipe(config, manifest, step),
        _compute(metrics, step),
        _results(results, evaluation, manifest, shown),
        audit_page.section(audit),
        _use(),
    ]
    return "\n".join(sections)


def _front(config: Config, manifest: Manifest) -> str:
    model, casing = config.model, "uncased" if manifest.vocabulary.do_lower_case else "cased"
    return f"""# A BERT pre-trained on clinical notes

{model.num_hidden_layers} layers, {model.hidden_size} wide, {model.num_attention_heads} heads, {casing}, a vocabulary
of {model.vocab_size:,} word pieces, up to {model.max_position_embeddings} tokens. Pre-trained with clinicalbert_jax
by masked language modelling and next sentence prediction (Devlin et al. 2019).

```python
from transformers import pipeline

pipeline("fill-mask", model="PATH/OF/THIS/DIRECTORY")("The patient was admitted for [MASK] pneumonia.")
```
"""


def _data(manifest: Manifest, shown: Shown) -> str:
    splits = manifest.splits
    rows: list[list[str | int]] = [
        ["notes", *(shown["notes", name] for name in splits)],
        ["patients", *(shown["patients", name] for name in splits)],
        ["sentence pairs", *(split.num_pairs for split in splits.values())],
        ["tokens", *(split.num_tokens for split in splits.values())],
    ]
    categories: list[list[str | int]] = [[name or "(none)", shown["category", name]] for name in _categories(manifest)]
    dropped = [f"{reason.replace('_', ' ')} {count(shown['dropped', reason])}" for reason in manifest.drops]
    drops = ", ".join(dropped) or "none"
    policy = manifest.options.get("deid_policy")
    return f"""## Data

Dataset `{manifest.name}` {manifest.version}. No patient is in two splits. Counts of pairs and tokens are after
duplication, where the same notes are paired and masked again at random. Counts of notes and patients under {LEAST},
and those from which they would follow, are not shown; categories of few patients are one, `other`.
{_canaries(manifest)}
{Table(["", *splits], rows).markdown()}
{Table(["note category", "notes"], categories).markdown() if categories else "Categories of notes: not shown."}
Notes left out, by reason: {plain(drops)}.

**De-identification.** {_deidentified(manifest)} The tags of de-identification found in them (`[**...**]`, `___`) were
{_TAGS.get(str(policy), "treated as the dataset's manifest says")}; the preparation de-identifies nothing itself.
"""


def _canaries(manifest: Manifest) -> str:
    found = manifest.extra.get("canaries")
    if not found:
        return card_header.STARTED_FROM_CANARIES if manifest.extra.get(provenance.STARTED_FROM_CANARIES) else ""
    return f"""
**It holds canaries**: {found["sentences"]:,} invented sentences, planted to measure what a model memorises. The model
can repeat them; they concern nobody. It is for audits, not for use.
"""


def _categories(manifest: Manifest) -> list[str]:
    """The categories that may be named: none of a preparation that did not count their patients."""
    found = {name for split in manifest.splits.values() for name in split.notes_by_category}
    return sorted(found) if "min_patients_of_a_category" in manifest.extra else []


def _deidentified(manifest: Manifest) -> str:
    formats = manifest.extra.get("formats", [])
    if INVENTED in formats:
        return "The notes are invented: a program wrote them from invented facts, and they concern nobody."
    layout = (
        f"The files have the columns of {' and '.join(_MIMIC[name] for name in formats)}, as invented notes and a "
        "hospital's own may have too. "
        if formats and set(formats) <= set(_MIMIC)
        else ""
    )
    return f"{layout}Whether the notes were de-identified is not known: **state it here before you pass the model on.**"


def _recipe(config: Config, manifest: Manifest, step: int) -> str:
    optimizer, train, layout = config.optimizer, config.train, manifest.layout
    options = manifest.options
    rows = [
        ["started from", provenance.started_from(config) if config.init_from else "random weights"],
        ["steps", f"{step:,} of {train.steps:,}, of {train.global_batch_size} rows each"],
        ["rows", f"{layout.kind}, {layout.max_seq_length} tokens, up to {layout.max_predictions_per_seq} masked"],
        ["pairing, masking", f"{options.get('pairing')}, {options.get('masking')}"],
        ["whole words masked", "yes" if options.get("whole_word_masking") else "no"],
        ["fraction masked", percent(options.get("masked_lm_prob", 0.15), digits=0)],
        ["dropout", f"{config.model.hidden_dropout_prob}, attention {config.model.attention_probs_dropout_prob}"],
        ["activations", train.dtype],
        *[[f"optimizer: {name}", str(value)] for name, value in dataclasses.asdict(optimizer).items()],
    ]
    return f"## Recipe\n\n{Table(['setting', 'value'], rows).markdown()}"


def _compute(metrics: Sequence[Mapping[str, Any]], step: int) -> str:
    tokens = seconds = 0.0
    before = 0
    for record in metrics:
        if record.get("kind") == "train" and before < record["step"] <= step and record.get("steps_per_s"):
            took = (record["step"] - before) / record["steps_per_s"]
            seconds, tokens = seconds + took, tokens + took * (record.get("tokens_per_s") or 0)
            before = record["step"]
    if not seconds:
        return "## Compute\n\nNot recorded.\n"
    return (
        f"## Compute\n\n{seconds / 3600:,.2f} hours of training steps over {tokens / 1e6:,.1f} million tokens "
        "(evaluation, checkpoints and restarts not counted).\n"
    )


def _results(results: Mapping[str, Any], evaluation: Mapping[str, Any] | None, manifest: Manifest, shown: Shown) -> str:
    if evaluation is not None:
        return _evaluated(evaluation, manifest, shown)
    if not results:
        return "## Held-out results\n\nNot evaluated: run `python -m clinicalbert_jax.evaluate` and export again.\n"
    rows = [[name, results[name]] for name in _NAMES if results.get(name) is not None]
    return (
        f"## Held-out results\n\nOn the validation patients, at step {results['step']:,}. For intervals and "
        "categories run `python -m clinicalbert_jax.evaluate` and export again.\n\n"
        + Table(["figure", "value"], rows).markdown()
    )


def _evaluated(evaluation: Mapping[str, Any], manifest: Manifest, shown: Shown) -> str:
    figures, unit = evaluation["models"][0], evaluation.get("resampling_unit", "patients")
    split = evaluation["split"]
    patients = count(shown.get(("patients", split), FEW))
    overall = [[name, interval(figures["overall"][name])] for name in _NAMES if name in figures["overall"]]
    lines = [
        f"## Held-out results\n\nOn the {patients} {unit} of the {split} split: "
        f"{evaluation['num_predictions']:,} masked tokens, {evaluation['num_pairs']:,} sentence pairs. In brackets: "
        f"95 % intervals, {unit} resampled. Losses in nats; the unigram entropy of the masked targets is "
        f"{evaluation['unigram_entropy']:.3f}.\n",
        Table(["figure", "value"], overall).markdown(),
    ]
    # A category whose number of notes is hidden is left out: its masked tokens would tell how many they are.
    named = [name for name in _categories(manifest) if isinstance(shown["category", name], int)]
    groups = {"note category": (named, figures["by_category"])}
    groups["token class"] = list(figures["by_token_class"]), figures["by_token_class"]
    for title, (names, by_name) in groups.items():
        rows = [
            [
                (name.replace("_", " ") if title == "token class" else name) or "(none)",
                by_name[name]["predictions"],
                interval(by_name[name]["mlm_loss"]),
                interval(by_name[name]["mlm_accuracy"]),
            ]
            for name in names
            if name in by_name
        ]
        if rows:
            lines.append(Table([title, "masked tokens", "MLM loss", "MLM accuracy"], rows).markdown())
    return "\n".join(lines)


_NAMES = ("mlm_loss", "mlm_perplexity", "mlm_accuracy", "nsp_loss", "nsp_accuracy")


def _use() -> str:
    return """## Intended use

As the encoder of models for clinical text in English, fine-tuned and validated on the task and at the place where
they will be used: entities, relations, classification, questions, search. For research. It is no medical device, and
nothing that it predicts is medical advice.

## Limits

It has read the notes of the places and years it was trained on, with their abbreviations, templates and errors, and
their biases by age, sex, ethnicity and insurance; expect less elsewhere. It knows no facts: a likely word is not a
true one. Rare findings, negation and numbers are where masked language models are weakest. Models can reproduce
fragments of their training text: treat the weights with the care that the notes ask for.

## Licence and credentials

A model trained on restricted notes (MIMIC-III, MIMIC-IV-Note, a hospital's own) is derived from them. PhysioNet's
credentialed data use agreement forbids sharing access with others and asks that derived models be shared under the
same agreement; a hospital's governance decides for its own notes. **State here under which terms this model may be
used, before you pass it on.** The code that trained it is under the Apache License 2.0.
"""


def _is_of(document: Mapping[str, Any], step: int) -> bool:
    models = document.get("models") or [{}]
    return models[0].get("step") == step
