"""The models of a comparison: those given, and the same shapes with random weights. Loads no JAX."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.finetune.compare.tasks_file import NAME
from clinicalbert_jax.pretrained import loading
from clinicalbert_jax.runs import provenance, workdir
from clinicalbert_jax.tokenizer_files.settings import Settings

RANDOM = "random"


@dataclass(frozen=True)
class ComparedModel:
    """A model, by the name it has on the page. `is_random`: its shape and tokenizer alone.

    `pretraining_data` are the datasets it was pre-trained on, as far as the user names them; `earlier` is what it was
    started from, '' where it began with random weights, None where that is not known. `step`: the checkpoint of a run,
    the latest one when the comparison began.
    """

    name: str
    source: loading.Source
    is_random: bool
    pretraining_data: tuple[Path, ...] = ()
    earlier: str | None = None
    step: int | None = None


def find(models: Sequence[str], pretraining_data: Sequence[str]) -> list[ComparedModel]:
    """The models that `--models` names, as PATH or NAME=PATH, and `random` for each shape and tokenizer among them.

    `pretraining_data`: NAME=DIR. Raises `UserError` for a model that is not there and a name that is given twice.
    """
    named = dict(map(_named, (entry for entry in models if entry != RANDOM)))
    if len(named) < sum(entry != RANDOM for entry in models):
        raise UserError("--models: expected different names, found one twice: write NAME=PATH")
    data: dict[str, list[Path]] = {name: [] for name in named}
    for entry in pretraining_data:
        name, _, directory = entry.partition("=")
        if name not in named or not directory:
            raise UserError(f"--pretraining_data: expected MODEL=DIR with one of {', '.join(named)}, found another")
        data[name].append(patterns.expanded(directory))
    found = [_model(name, loading.find(path), tuple(data[name])) for name, path in named.items()]
    if RANDOM in models:
        shapes: dict[tuple[tuple, Settings | None], ComparedModel] = {}
        for model in found:
            shapes.setdefault(_shape(model), model)
        for model in shapes.values():
            name = RANDOM if len(shapes) == 1 else f"{RANDOM}-{model.name}"
            if name in named:
                raise UserError(f"--models: expected another name than {name}, which is that of random weights")
            found.append(dataclasses.replace(model, name=name, is_random=True, pretraining_data=(), earlier=""))
    if not found:
        raise UserError("--models: expected at least one model, found none")
    return found


def _shape(model: ComparedModel) -> tuple[tuple, Settings | None]:
    # The dropout is that of the experiment.
    config = dataclasses.replace(
        loading.config_of(model.source), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    return dataclasses.astuple(config), loading.tokenizer_of(model.source)


def _named(entry: str) -> tuple[str, str]:
    name, separator, path = entry.partition("=")
    if not separator or not NAME.fullmatch(name):
        path = entry
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(entry.split("@")[0].rstrip("/")).name).lstrip("_.-")[:40]
    if not NAME.fullmatch(name):
        raise UserError("--models: expected NAME=PATH for a path whose last part is no name, found the path alone")
    return name, path


def _model(name: str, source: loading.Source, data: tuple[Path, ...]) -> ComparedModel:
    if source.is_run:
        config, manifest = workdir.read_config(source.directory), workdir.manifest_of(source.directory)
        known = provenance.provenance(config, manifest, 0)
    else:
        known = provenance.read(source.directory)
    if loading.tokenizer_of(source) is None:
        raise UserError(f"--models: expected a model with its tokenizer, found none of {name}")
    given = [provenance.shards_sha256(Dataset(one, "train").manifest) for one in data]  # whose shards are there, whole
    if given and known and known["shards_sha256"] not in given:
        raise UserError(
            f"--pretraining_data: expected the dataset that {name} was trained on ({known['data']}), found others: "
            "give that one as well"
        )
    step = workdir.complete_step(source.directory, None) if source.is_run else None
    return ComparedModel(name, source, False, data, known.get("started_from"), step)
