"""What `python -m clinicalbert_jax.audit` does: check everything without JAX, then score, then write the report.

    OUTPUT/audit.json, audit.html          the report, when it is complete
    OUTPUT/parts-HASH/                     losses that are done, until then

For a run the report is also in the run's directory, where `export` finds it for the model card.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clinicalbert_jax
from clinicalbert_jax.audit import people as people_module
from clinicalbert_jax.audit import texts
from clinicalbert_jax.audit.people import Person, ScoresSentences
from clinicalbert_jax.audit.texts import Windows
from clinicalbert_jax.data import masking
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.evaluate import heldout
from clinicalbert_jax.files import atomic_output, directory_lock, patterns
from clinicalbert_jax.options import option
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.report import suppression
from clinicalbert_jax.report.number_formats import duration
from clinicalbert_jax.runs import checksums, object_store, provenance, workdir
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep.canaries import planting, private_file
from data_prep.canaries.private_file import Content
from data_prep.wordpiece.tokenizer import Tokenizer

JSON_FILE, HTML_FILE = provenance.AUDIT_FILE, "audit.html"
FORMAT = 1
SEED = 0  # of the choice of patients and windows, and of the masks


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    model: str = option("The run to audit, or its export.")
    data_dir: str = option("The NAME/VERSION directory that it was trained on.")
    output: str = option("Directory of the report.")
    reference: str | None = option("What it started from, or any BERT with its vocabulary: a stronger attack.", None)
    canaries: str | None = option("The private file that data_prep --canaries wrote.", None, labelled=True)
    names: str | None = option("A CSV file of people's names and conditions, to look for.", None, labelled=True)
    step: str | None = option("Checkpoint of the run: its number, or 'best' on validation; default: latest.", None)
    patients: int = option("Patients on each side at most.", 1000, lowest=30)
    windows: int = option("Windows of text of each patient at most.", 4, lowest=1)
    maskings: int = option("Times that each window is masked.", 4, lowest=1)
    estimate: bool = option("Say how long it will take, and stop.", False)
    overwrite: bool = option("Replace an earlier report in --output.", False)


@dataclass(frozen=True)
class Inputs:
    """What an audit is of."""

    source: loading.Source
    reference: loading.Source | None
    data_dir: Path
    manifest: Manifest
    tokenizer: Tokenizer
    canaries: Content | None
    people: list[Person]
    started_from: str


def run(options: Options) -> None:
    """Check, score what is not done, and write the report."""
    output = atomic_output.local_path(options.output, "--output")
    if not output.parent.is_dir() or output.is_file():
        raise UserError(f"--output: expected a directory inside an existing one, found {output}")
    _check_report(output, options)
    inputs = check(options)
    atomic_output.refuse_inputs(output, [inputs.data_dir, inputs.source.directory], "--output")
    planted = [] if inputs.canaries is None else [one for one in inputs.canaries.candidates if one.is_planted]
    tokens = planting.tokens_of(planted, inputs.tokenizer) if planted else []
    windows = texts.read(
        inputs.data_dir, inputs.manifest, inputs.tokenizer, options.patients, options.windows, SEED, tokens
    )
    check_patients(windows)
    output.mkdir(exist_ok=True)
    with directory_lock.held(output, "--output", beside=True):
        _check_report(output, options)  # another process may have written it in the meantime
        document = audit(inputs, windows, options, output)
        if document is None:
            return
        write(document, output)
        if inputs.source.is_run:
            with atomic_output.file(inputs.source.directory / JSON_FILE, overwrite=True) as partial:
                partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(output / HTML_FILE)


def _check_report(output: Path, options: Options) -> None:
    if (output / JSON_FILE).exists() and not options.overwrite and not options.estimate:
        raise UserError(f"--output: {output / JSON_FILE} exists: give another name, or --overwrite to replace it")


def check(options: Options) -> Inputs:
    """Everything that can be checked without JAX; raises `UserError`."""
    data_dir = object_store.dataset(options.data_dir)
    manifest = Manifest.load(data_dir)
    source = loading.find(options.model)
    loading.check_step(options.step)
    if options.step is not None and not source.is_run:
        raise UserError(f"--step: expected a run to choose a checkpoint from, found {source.directory}")
    heldout.check_fits(source, data_dir, manifest)
    started_from = _require_trained_on(source, data_dir, manifest)
    reference = None if options.reference is None else loading.find(options.reference)
    if reference is not None:
        if reference.directory.resolve() == source.directory.resolve():
            raise UserError("--reference: expected another model than --model, found the same")
        heldout.check_fits(reference, data_dir, manifest)
        if (known := _provenance_of(reference)) and known["shards_sha256"] == provenance.shards_sha256(manifest):
            raise UserError(
                "--reference: expected a model that did not see these data, found one that was trained on them, which "
                "hides what the other one kept: give the model that training started from, or any other BERT"
            )
    return Inputs(
        source,
        reference,
        data_dir,
        manifest,
        Tokenizer(bert_tokenizer.read(data_dir)),
        _canaries(options.canaries, manifest),
        [] if options.names is None else people_module.read(patterns.expanded(options.names)),
        started_from,
    )


def check_patients(windows: Windows) -> None:
    """Raise `UserError` with too few patients on a side for any interval."""
    from clinicalbert_jax.audit import findings, membership

    counts = findings.num_patients(windows)
    if min(counts) < membership.MIN_PATIENTS:
        raise UserError(
            f"--data_dir: expected at least {membership.MIN_PATIENTS} patients with text in the training split and in "
            f"the test split, found too few in the {'training' if counts[0] < counts[1] else 'test'} split: prepare "
            "the data with a larger --test_fraction, and train on that"
        )


def audit(inputs: Inputs, windows: Windows, options: Options, output: Path) -> dict[str, Any] | None:
    """The report as one JSON document; None where only an estimate is asked for."""
    from clinicalbert_jax.audit import findings, losses
    from clinicalbert_jax.training import xla

    xla.configure_inference()
    tokens, layout = inputs.tokenizer.vocabulary, inputs.manifest.layout
    policy = masking.policy(list(tokens), layout.max_predictions_per_seq)
    loaded = loading.load(inputs.source, options.step)
    model, reference = losses.Scorer(loaded, tokens), None
    if inputs.reference is not None:
        base = loading.load(inputs.reference)
        if _are_equal(base.params, loaded.params):
            raise UserError("--reference: expected another model than --model, found the same weights")
        reference = losses.Scorer(base, tokens)
    num_models = 1 if reference is None else 2
    positions = int((windows.length_W + 3).sum()) * options.maskings * num_models
    sentences = losses.SentenceCount(model)
    _findings_of_sentences(inputs, sentences)
    of_windows = model.batches_of_windows(windows, options.maskings, layout.max_predictions_per_seq)
    seconds = model.seconds(of_windows + sentences.batches) + (reference.seconds(of_windows) if reference else 0.0)
    print(f"{positions:,} tokens of notes to score, about {duration(seconds)} here", file=sys.stderr)
    if options.estimate:
        return None
    hashes = {
        "model_sha256": weights_sha256(inputs.source, loaded.step),
        "reference_sha256": None if inputs.reference is None else weights_sha256(inputs.reference, None),
        "shards_sha256": provenance.shards_sha256(inputs.manifest),
    }
    settings = {"patients": options.patients, "windows": options.windows, "maskings": options.maskings, "seed": SEED}
    kind = {"masks": "by text", "windows_of_a_part": losses.WINDOWS_OF_A_PART}
    parts = output / f"parts-{_hash(hashes | settings | kind)}"
    parts.mkdir(exist_ok=True)
    mask = policy, options.maskings, SEED, parts
    loss_W = model.of_windows(windows, *mask, "model")
    reference_W = None if reference is None else reference.of_windows(windows, *mask, "reference")
    document = {
        "format": FORMAT,
        "project_version": clinicalbert_jax.__version__,
        "data": f"{inputs.manifest.name} {inputs.manifest.version}",
        "unit": heldout.unit(inputs.manifest),
        "step": loaded.step,
        "started_from": inputs.started_from,
        **hashes,
        "settings": settings,
        "patients": _patients(inputs.manifest, findings.num_patients(windows), options.patients),
        "membership": findings.membership_findings(windows, loss_W, reference_W, inputs.manifest.categories),
        **_findings_of_sentences(inputs, model),
    }
    return _rounded(document)


def _findings_of_sentences(inputs: Inputs, model: ScoresSentences) -> dict[str, Any]:
    from clinicalbert_jax.audit import planted

    return {
        "canaries": inputs.canaries and planted.findings(inputs.canaries, inputs.tokenizer, model),
        "names": people_module.findings(inputs.people, inputs.tokenizer, model) if inputs.people else None,
    }


def write(document: Mapping[str, Any], output: Path) -> None:
    """Write the report, and remove what it was made of."""
    from clinicalbert_jax.audit import page

    contents = {JSON_FILE: json.dumps(document, indent=2) + "\n", HTML_FILE: page.page(document)}
    for name, content in contents.items():
        with atomic_output.file(output / name, overwrite=True) as partial:
            partial.write_text(content, encoding="utf-8")
    for parts in output.glob("parts-*"):
        shutil.rmtree(parts)


def weights_sha256(source: loading.Source, step: int | None) -> str:
    """A hash of a model's weights, as its files have them."""
    if source.is_run:
        number = str(workdir.complete_step(source.directory, step))
        path = source.directory / workdir.CHECKPOINTS / number / checksums.FILE_NAME
        return hashlib.sha256(path.read_bytes()).hexdigest()
    whole = hashlib.sha256()
    for path in sorted(source.directory.iterdir()):
        if path.suffix in (".bin", ".safetensors"):
            with path.open("rb") as file:
                whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _require_trained_on(source: loading.Source, data_dir: Path, manifest: Manifest) -> str:
    """What the model started from; raises `UserError` unless it was trained on these very shards."""
    known = _provenance_of(source)
    if not known:
        raise UserError(
            f"--model: expected a model that says what it was trained on, such as a run or its export, found none in "
            f"{source.directory}: give the run"
        )
    if known["shards_sha256"] != provenance.shards_sha256(manifest):
        raise UserError(
            f"--model: expected a model trained on the data in {data_dir}, found one trained on another preparation: "
            "give the --data_dir that it was trained on"
        )
    return known["started_from"]


def _provenance_of(source: loading.Source) -> dict[str, Any]:
    """What is known of a model's training; empty where nothing is."""
    if source.is_run:
        config, manifest = workdir.read_config(source.directory), workdir.manifest_of(source.directory)
        return provenance.provenance(config, manifest, step=0)
    return provenance.read(source.directory)


def _canaries(given: str | None, manifest: Manifest) -> Content | None:
    has_some = bool(manifest.extra.get("canaries"))
    if given is None:
        if has_some:
            raise UserError(
                "--canaries: expected the private file of the canaries in these data, found none: give the file that "
                "data_prep named, or their sentences would pass for patients' text"
            )
        return None
    content = private_file.read(patterns.expanded(given), "--canaries")
    if not has_some or content.shards_sha256 != provenance.shards_sha256(manifest):
        raise UserError("--canaries: expected the canaries of these data, found those of another preparation")
    return content


def _patients(manifest: Manifest, scored: tuple[int, int], most: int) -> dict[str, int | str]:
    """How many were scored on each side, as far as that may be shown: the data card says how many there are."""
    counts: dict[tuple[str, str], int] = {}
    sums = []
    for split, found in zip((texts.MEMBERS, texts.OTHERS), scored, strict=True):
        counts[split, "scored"] = found
        if found < most:  # else it is how many were asked for
            total = max(manifest.splits[split].num_patients, found)
            counts |= {(split, "total"): total, (split, "rest"): total - found}
            sums.append(((split, "total"), [(split, "scored"), (split, "rest")]))
    shown = suppression.shown(counts, sums)
    return {"members": shown[texts.MEMBERS, "scored"], "non_members": shown[texts.OTHERS, "scored"]}


def _are_equal(one: Any, other: Any) -> bool:
    import jax
    import numpy as np

    leaves = [dict(jax.tree_util.tree_leaves_with_path(params)) for params in (one, other)]
    return leaves[0].keys() == leaves[1].keys() and all(
        np.array_equal(leaf, leaves[1][path]) for path, leaf in leaves[0].items()
    )


def _hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    """To four digits: finer ones would say how many patients there are."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) and abs(value) >= 1e-4 else value
