"""`init_from`: the weights and the architecture of a BERT or of another run; never over a run's own checkpoint."""

import dataclasses
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from clinicalbert_jax.config import Config
from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.export.write_run import Options, export
from clinicalbert_jax.finetune import task_json
from clinicalbert_jax.finetune.entities.task import EntitiesConfig
from clinicalbert_jax.pretrained import huggingface, loading
from clinicalbert_jax.runs import checkpoint, provenance, workdir
from clinicalbert_jax.runs.checkpoint import restore_params
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import AddedToken
from clinicalbert_jax.training import init_from, train_loop
from clinicalbert_jax.training import pretrain as pretraining
from tests import toy_dataset
from tests.clinicalbert_jax.conftest import pretrain, small_config

pytestmark = pytest.mark.usefixtures("compilation_cache")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy", num_train=40)


@pytest.fixture(scope="module")
def parent(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("parent") / "run"
    assert pretrain(small_config(steps=6), data_dir, run) == 0
    return run


def start(config: Config, data_dir: Path, run: Path) -> int:
    """As run_pretrain.py: the architecture first, then the rest."""
    config = init_from.adopt_architecture(config, Manifest.load(data_dir), data_dir, run)
    return pretrain(config, data_dir, run)


def of_run(run: Path) -> list[np.ndarray]:
    return jax.tree.leaves(restore_params(run)[1])


def from_source(source: Path, **overrides: object) -> Config:
    """Another shape than the source's, to be replaced by it, and a rate at which nothing moves."""
    config = small_config(steps=1, **overrides)
    config.optimizer.learning_rate = 1e-30
    model = dataclasses.replace(config.model, num_hidden_layers=3, intermediate_size=128)
    return dataclasses.replace(config, init_from=str(source), model=model)


def test_another_run_is_continued_with_a_new_schedule(data_dir: Path, parent: Path, tmp_path: Path, capsys) -> None:
    assert start(from_source(parent), data_dir, tmp_path / "run") == 0
    assert f"from {parent}" in capsys.readouterr().err
    for ours, theirs in zip(of_run(tmp_path / "run"), of_run(parent), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert workdir.read_config(tmp_path / "run").model.num_hidden_layers == 1


def test_its_optimizers_moments_come_along_where_asked_for(data_dir: Path, parent: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(from_source(parent), init_optimizer=True)
    manifest = Manifest.load(data_dir)
    config = init_from.adopt_architecture(config, manifest, data_dir, tmp_path / "run")
    config = workdir.check_data(config, manifest, data_dir)
    job = pretraining.make_job(config, data_dir)
    state, origin = job.first_state()
    assert origin.endswith("with its optimizer's moments")
    moments = checkpoint.restore_optimizer(parent, job.program.abstract_state.opt_state)
    counts = {"adam": 6, "schedule": 0}
    found = {
        "adam": int(optax.tree.get(state.opt_state, "ScaleByAdamState").count),
        "schedule": int(optax.tree.get(state.opt_state, "ScaleByScheduleState").count),
    }
    assert found == counts
    assert int(state.updates) == int(state.step) == 0
    for name in ("mu", "nu"):
        ours, theirs = (jax.tree.leaves(optax.tree.get(of, name)) for of in (state.opt_state, moments))
        assert any(np.any(array != 0) for array in ours)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_optimizer_that_is_not_there_is_refused(data_dir: Path, parent: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(from_source(parent), init_optimizer=True)
    config.optimizer.name = "lamb"
    with pytest.raises(UserError, match="expected a run with the optimizer lamb, found adamw"):
        start(config, data_dir, tmp_path / "run")
    with pytest.raises(UserError, match=r"config.init_optimizer: expected a run to take it from"):
        dataclasses.replace(config, init_from="")


def test_an_exported_directory_gives_the_same_parameters(data_dir: Path, parent: Path, tmp_path: Path) -> None:
    config, params, tokenizer_dir, _ = restore_params(parent)
    (tmp_path / "model").mkdir()
    huggingface.write_directory(tmp_path / "model", config.model, params, tokenizer_dir)
    assert start(from_source(tmp_path / "model"), data_dir, tmp_path / "run") == 0
    for ours, theirs in zip(of_run(tmp_path / "run"), of_run(parent), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_runs_own_checkpoint_comes_first(data_dir: Path, parent: Path, tmp_path: Path, capsys) -> None:
    config = from_source(parent)
    assert start(config, data_dir, tmp_path / "run") == 0
    capsys.readouterr()
    config.train.steps = 2
    assert start(config, data_dir, tmp_path / "run") == train_loop.EXIT_DONE
    assert "attention by xla (the only one on cpu), continuing from step 1" in capsys.readouterr().err


def test_a_run_that_has_begun_needs_its_source_no_more(data_dir: Path, parent: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(parent, source)
    config = from_source(source)
    assert start(config, data_dir, tmp_path / "run") == 0
    shutil.rmtree(source)
    config.train.steps = 2
    assert start(config, data_dir, tmp_path / "run") == train_loop.EXIT_DONE
    assert restore_params(tmp_path / "run")[3] == 2


def test_what_started_from_a_model_of_canaries_is_known_to(data_dir: Path, parent: Path, tmp_path: Path) -> None:
    """From a run, from its export, over two generations, when the source is gone, and when fine-tuned."""
    first = shutil.copytree(parent, tmp_path / "first")
    manifest = Manifest.load(first)
    canaries = {"form": "number", "candidates": 60, "planted": 31, "sentences": 1234}
    dataclasses.replace(manifest, extra=manifest.extra | {"canaries": canaries}).save(first)
    second, third = tmp_path / "second", tmp_path / "third"
    config = from_source(first)
    assert start(config, data_dir, second) == 0
    assert not (Manifest.load(second).extra.get("canaries") or provenance.has_canaries(parent))
    with pytest.raises(UserError, match="--with_canaries: expected this flag"):
        export(Options(workdir=str(second), output_dir=str(tmp_path / "model")))
    assert export(Options(workdir=str(second), output_dir=str(tmp_path / "model"), with_canaries=True)) == 0
    assert "started from a model that was trained on canaries" in (tmp_path / "model" / "README.md").read_text()
    shutil.rmtree(first)
    config.train.steps = 2
    assert start(config, data_dir, second) == 0
    kept = init_from.manifest_to_keep(from_source(tmp_path / "model"), manifest, third)
    workdir.keep(third, config, kept, data_dir)
    for model in (second, third, tmp_path / "model"):
        assert provenance.has_canaries(model)
    task = EntitiesConfig(max_seq_length=16).task_with_labels(("O", "B-drug", "I-drug"))
    for source, expected in ((tmp_path / "model", True), (parent, False), (None, False)):
        run = tmp_path / f"tuned {source and source.name}"
        task_json.keep(run, config, task_json.document(task, {}, source), data_dir)
        assert provenance.has_canaries(run) == expected
    run = tmp_path / "tuned model"
    (run / workdir.CHECKPOINTS).mkdir()
    with pytest.raises(UserError, match="--with_canaries"):
        export(Options(workdir=str(run), output_dir=str(tmp_path / "tuned export")))


def test_a_model_of_another_vocabulary_is_refused_before_anything_is_written(
    data_dir: Path, parent: Path, tmp_path: Path
) -> None:
    config, params, tokenizer_dir, _ = restore_params(parent)
    (tmp_path / "model").mkdir()
    huggingface.write_directory(tmp_path / "model", config.model, params, tokenizer_dir)
    settings = bert_tokenizer.read(tmp_path / "model")
    other = ["other" if entry == "word7" else entry for entry in settings.entries]
    for changes, message in (
        ({"entries": tuple(other)}, r"entry 12 differs, 1 in all"),
        ({"strip_accents": False}, r"with strip_accents False, found True"),
        ({"added_tokens": (AddedToken("word3"),)}, r"with added tokens 1 tokens, found 0 tokens, not the same"),
        ({"model_max_length": 8}, r"found model_max_length=8"),
    ):
        bert_tokenizer.write(tmp_path / "model", dataclasses.replace(settings, **changes))
        with pytest.raises(UserError, match=message):
            start(from_source(tmp_path / "model"), data_dir, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_one_clear_line(data_dir: Path, parent: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"expected a directory, or a model on the Hugging Face hub|expected the directory"
    ):
        start(dataclasses.replace(small_config(), init_from=str(tmp_path / "absent")), data_dir, tmp_path / "run")
    other = tmp_path / "other"
    shutil.copytree(parent, other)
    settings = bert_tokenizer.read(other / "tokenizer")
    bert_tokenizer.write(other / "tokenizer", dataclasses.replace(settings, tokenize_chinese_chars=False))
    with pytest.raises(UserError, match=r"config.init_from: expected a run with the vocabulary of"):
        start(from_source(other), data_dir, tmp_path / "run")


def with_splits(directory: Path, copy: Path, **options: object) -> Path:
    """A dataset or a run whose manifest says how patients were split."""
    shutil.copytree(directory, copy)
    manifest = Manifest.load(copy)
    dataclasses.replace(manifest, options=manifest.options | options).save(copy)
    return copy


SPLITS = {"split_key": "clinicalbert_jax", "validation_fraction": 0.05, "test_fraction": 0.1}
# Of a manifest from when one salt, which had a public default, keyed everything.
OLD_SPLITS = {"salt_hash": "96ca7b1e5bc3c10575b62550013c2404", "validation_fraction": 0.05, "test_fraction": 0.1}


@pytest.mark.parametrize("exported", [False, True])
def test_data_that_are_split_otherwise_are_refused(
    data_dir: Path, parent: Path, tmp_path: Path, exported: bool
) -> None:
    source = with_splits(parent, tmp_path / "run", **SPLITS)
    if exported:
        export(Options(workdir=str(source), output_dir=str(tmp_path / "export")))
        source = tmp_path / "export"

    def adopt(name: str, options: dict[str, object], **config: object) -> None:
        data = with_splits(data_dir, tmp_path / name, **options)
        wanted = dataclasses.replace(from_source(source), **config)
        init_from.adopt_architecture(wanted, Manifest.load(data), data, tmp_path / "new")

    adopt("again", SPLITS)
    adopt("old", OLD_SPLITS)
    for number, change in enumerate(({"split_key": "another"}, {"test_fraction": 0.2}, {"validation_fraction": 0.1})):
        with pytest.raises(UserError, match=r"config\.init_from: .* split as those .*allow_other_splits"):
            adopt(f"other_{number}", SPLITS | change)
    with pytest.raises(UserError, match="no record of the splits"):
        adopt("unknown", {})
    with pytest.raises(UserError, match="the salt of hash 0123"):
        adopt("old_private", OLD_SPLITS | {"salt_hash": "0123"})
    adopt("allowed", SPLITS | {"split_key": "another"}, allow_other_splits=True)


@pytest.mark.parametrize("is_run", [False, True])
def test_a_model_of_before_splits_were_recorded_is_refused(data_dir: Path, tmp_path: Path, is_run: bool) -> None:
    """Its training patients may be held out in these data."""
    data, old = with_splits(data_dir, tmp_path / "data", **SPLITS), tmp_path / "old"
    manifest, before = Manifest.load(data), Manifest.load(data_dir)
    config = workdir.check_data(small_config(), before, data_dir)
    if is_run:
        workdir.keep(old, config, before, data_dir)
    else:
        old.mkdir()
        known = provenance.provenance(config, before, 3)
        del known["split_rule"]
        checksummed_json.write(old / provenance.FILE_NAME, known)
    source = loading.Source(old, is_run=is_run)
    with pytest.raises(UserError, match="no record of the splits"):
        init_from._check_splits(source, manifest, data)
    init_from._check_splits(source, before, data_dir)
