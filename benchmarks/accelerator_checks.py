"""Checks on this machine's first device, in a process of their own: `benchmarks.accelerator` starts one for each.

    python -m benchmarks.accelerator_checks attention '{"lengths": [128], ...}'

Prints what it does, and after each comparison a JSON line with what it has found so far: a kernel may end the process.

Shape legend: B batch, L length, H heads, K head size.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clinicalbert_jax import config
from clinicalbert_jax.training import xla

xla.configure()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from benchmarks.train_step import batches_of  # noqa: E402
from clinicalbert_jax.data.dataset import Dataset  # noqa: E402
from clinicalbert_jax.data.manifest import Manifest  # noqa: E402
from clinicalbert_jax.modeling import attention, bert, fused_attention  # noqa: E402
from clinicalbert_jax.modeling.dropout import dropout  # noqa: E402
from clinicalbert_jax.plan import estimate  # noqa: E402
from clinicalbert_jax.training import losses  # noqa: E402
from clinicalbert_jax.training.sharding import make_mesh  # noqa: E402

# Bounds on |found - exact| / |exact|, Euclidean, for the output and each gradient. bfloat16 rounds to one part in 256.
ATTENTION_BOUND = 0.01
BOUNDS = {"float32": {"loss": 1e-5, "gradient": 1e-4}, "bfloat16": {"loss": 1e-3, "gradient": 0.02}}

# In the order in which they run: our own kernels last, since an illegal access of one would fail all that follow.
IMPLEMENTATIONS = ("xla", "cudnn", "splash", "pallas")

Found = dict[str, Any]
Report = Callable[[Found], None]


def main() -> None:
    def report(found: Found) -> None:
        print(json.dumps(found), flush=True)

    report(CHECKS[sys.argv[1]](json.loads(sys.argv[2]), report))


def check_attention(spec: dict[str, Any], report: Report = lambda found: None) -> Found:
    """Every implementation that runs here, in bfloat16, against plain float32 arithmetic on the CPU.

    `spec`: lengths, kinds, rates, heads, head_size.
    """
    device = jax.devices()[0]
    found: dict[str, Any] = {
        "device": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "memory_bytes": estimate.memory_of(device),
        "implementations": [],
        "bound": ATTENTION_BOUND,
        "results": [],
    }
    for length in spec["lengths"]:
        for rate in spec["rates"]:
            model = _model(spec, rate)
            chosen = attention.resolve("auto", device, model, "bfloat16", length)
            names = [n for n in IMPLEMENTATIONS if not attention.lacking(n, device, model, "bfloat16", length)]
            names.sort(key=lambda name: name != chosen.name)
            found["implementations"].append({"length": length, "dropout": rate, "names": names, "why": chosen.why})
    report(found)
    for name in IMPLEMENTATIONS:
        for setting in found["implementations"]:
            for kind in spec["kinds"] if name in setting["names"] else ():
                length, rate = setting["length"], setting["dropout"]
                about = {"length": length, "rows": kind, "dropout": rate, "implementation": name}
                bounds = dict.fromkeys(("output", "d_query", "d_key", "d_value"), ATTENTION_BOUND)
                errors_of = functools.partial(_attention_errors, name, kind, length, rate, spec)
                _compare(about, bounds, errors_of, found, report)
    return found


def _compare(
    about: dict[str, Any],
    bounds: dict[str, float],
    errors_of: Callable[[], dict[str, float]],
    found: Found,
    report: Report,
) -> None:
    """Add one comparison to `found`. One that raises has failed, and the next one runs."""
    try:
        errors = errors_of()
        result = {"errors": errors, "passed": all(errors[what] <= bound for what, bound in bounds.items())}
    except Exception as error:
        result = {"errors": {}, "passed": False, "failure": f"{type(error).__name__}: {str(error)[:300]}"}
    found["results"].append(about | result)
    print(", ".join(map(str, about.values())), "passed" if result["passed"] else "FAILED", flush=True)
    report(found)


def _attention_errors(name: str, kind: str, length: int, rate: float, spec: dict[str, Any]) -> dict[str, float]:
    ids_BxL = jnp.asarray(sequence_ids(kind, length))
    shape = *ids_BxL.shape, spec["heads"], spec["head_size"]
    keys = jax.random.split(jax.random.key(0), 4)
    arrays = [jax.random.normal(key, shape).astype(jnp.bfloat16) for key in keys]
    dropout_key = jax.random.key(1) if rate else None  # the same draws on every platform
    real_BxLx1x1 = (ids_BxL != 0)[..., None, None]

    def both(run: Any, *arrays: jax.Array) -> list[jax.Array]:
        *qkv, upstream = arrays
        mixed, gradient = jax.vjp(run, *qkv)
        return [mixed * real_BxLx1x1, *gradient(upstream * real_BxLx1x1)]

    def candidate(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        options: dict[str, Any] = {"implementation": name, "packed": kind == "packed"}
        return attention.attention(query, key, value, ids_BxL, **options, dropout_rate=rate, dropout_key=dropout_key)

    def plain(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        query, key, value = (x.astype(jnp.float32) for x in (query, key, value))
        scores_BxHxLxL = jnp.einsum("blhk,bmhk->bhlm", query, key) * shape[3] ** -0.5
        reach_Bx1xLxL = (ids_BxL[:, :, None] == ids_BxL[:, None, :])[:, None]
        weights_BxHxLxL = jax.nn.softmax(jnp.where(reach_Bx1xLxL, scores_BxHxLxL, fused_attention.MASKED), axis=-1)
        if dropout_key is not None and name == "pallas":
            keys_2xBxH = fused_attention.draw_keys(dropout_key, shape[0], shape[2])
            zeroed = round(rate * fused_attention.CHOICES) / fused_attention.CHOICES
            weights_BxHxLxL *= fused_attention.keep_mask(keys_2xBxH, length, rate) / (1 - zeroed)
        elif dropout_key is not None:
            weights_BxHxLxL = dropout(weights_BxHxLxL, rate, dropout_key)
        return jnp.einsum("bhlm,bmhk->blhk", weights_BxHxLxL, value)

    found = jax.device_get(jax.jit(lambda *arrays: both(candidate, *arrays))(*arrays))
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        on_cpu = jax.device_put([*arrays[:3], arrays[3].astype(jnp.float32)], jax.devices("cpu")[0])
        exact = jax.device_get(jax.jit(lambda *arrays: both(plain, *arrays))(*on_cpu))
    names = ("output", "d_query", "d_key", "d_value")
    return {name: _distance(one, other) for name, one, other in zip(names, found, exact, strict=True)}


def sequence_ids(kind: str, length: int) -> np.ndarray:
    """Rows as a batch has them, one of padding alone included, B x L."""
    rows = {
        "padded": [[length], [length // 3], [length - 1], []],
        "packed": [[length // 2, length // 2], [length // 3, 1, length // 3], [length], []],
    }
    ids_BxL = np.zeros((4, length), np.int32)
    for row_L, lengths in zip(ids_BxL, rows[kind], strict=True):
        row_L[: sum(lengths)] = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    return ids_BxL


def check_gradients(spec: dict[str, Any], report: Report = lambda found: None) -> Found:
    """Loss and gradient of a few layers on a batch of the shards against float32 on the CPU, without dropout.

    In float32 with full products, and in bfloat16 by every implementation of attention. `spec`: layers, heads,
    head_size, rows, data_dirs (by kind of rows).
    """
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    found: Found = {"bounds": BOUNDS, "results": []}
    for kind, data_dir in spec["data_dirs"].items():
        dataset = Dataset(Path(data_dir), "train")
        batch = batches_of(dataset, spec["rows"])[0]
        length = dataset.layout.max_seq_length
        model = dataclasses.replace(
            _model(spec, 0.0), vocab_size=dataset.manifest.vocabulary.size, num_hidden_layers=spec["layers"]
        )
        names = [n for n in IMPLEMENTATIONS if not attention.lacking(n, device, model, "bfloat16", length)]
        exact = _loss_and_gradient(model, length, batch, cpu, "float32", "xla")
        for dtype, name in [("float32", "xla"), *(("bfloat16", name) for name in names)]:
            about = {"length": length, "rows": kind, "dtype": dtype, "implementation": name}
            errors_of = functools.partial(_gradient_errors, exact, model, length, batch, device, dtype, name)
            _compare(about, BOUNDS[dtype], errors_of, found, report)
    return found


def _gradient_errors(exact: tuple[np.ndarray, np.ndarray], *how: Any) -> dict[str, float]:
    loss, gradient = _loss_and_gradient(*how)
    return {"loss": _distance(loss, exact[0]), "gradient": _distance(gradient, exact[1])}


def _loss_and_gradient(
    model: config.ModelConfig, length: int, batch: dict[str, np.ndarray], device: jax.Device, dtype: str, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and the gradient of all parameters in one vector."""
    experiment = config.Config(
        model=model,
        data=config.DataConfig(max_seq_length=length),
        train=config.TrainConfig(global_batch_size=len(batch["input_ids"]), dtype=dtype, attention=name),
    )
    objective = losses.pretraining(experiment, make_mesh(experiment.mesh, [device]))

    def loss(params: bert.Params, batch: losses.Batch) -> jax.Array:
        return losses.total_loss(objective.sums(params, batch, None), objective.weights(batch))

    with jax.default_device(jax.devices("cpu")[0]):
        params = objective.init(jax.random.key(0))
    with jax.default_device(device), jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
        value, gradient = jax.jit(jax.value_and_grad(loss))(*jax.device_put((params, batch), device))
    return np.asarray(value), np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.device_get(gradient))])


def check_run(spec: dict[str, Any], report: Report = lambda found: None) -> Found:
    """Train, or continue, as `run_pretrain.py` does. `spec`: data_dir, workdir, model, batch_size, steps."""
    from clinicalbert_jax.plan import compile_ahead
    from clinicalbert_jax.runs import workdir
    from clinicalbert_jax.training import pretrain, train_loop  # where they are missing, the other checks run

    data_dir, run = Path(spec["data_dir"]), Path(spec["workdir"])
    manifest = Manifest.load(data_dir)
    experiment = config.Config(
        model=config.ModelConfig(**spec["model"]),
        data=config.DataConfig(max_seq_length=manifest.layout.max_seq_length),
        optimizer=config.OptimizerConfig(warmup_steps=10),
        train=config.TrainConfig(
            steps=spec["steps"],
            global_batch_size=spec["batch_size"],
            log_every=max(1, spec["steps"] // 30),
            eval_every=0,
            checkpoint_every=spec["steps"] // 3,
        ),
    )
    experiment = workdir.check_data(experiment, manifest, data_dir)
    workdir.check_same_run(run, experiment, manifest)
    job = pretrain.make_job(experiment, data_dir)
    workdir.keep(run, experiment, manifest, data_dir)
    code = train_loop.run(job, run)
    compilations = job.program.compiled_step._cache_size()
    devices = list(job.program.mesh.devices.flat)
    statistics = devices[0].memory_stats()  # a CPU has none
    planned = compile_ahead.compile_step(experiment, manifest.layout, devices).memory.total if statistics else None
    return {
        "exit_code": code,
        "compilations": compilations,
        "peak_bytes": statistics["peak_bytes_in_use"] if statistics else None,
        "planned_bytes": planned,
        "attention": job.attention,
    }


def _model(spec: dict[str, Any], rate: float) -> config.ModelConfig:
    width = spec["heads"] * spec["head_size"]
    return config.ModelConfig(
        vocab_size=1,
        hidden_size=width,
        num_attention_heads=spec["heads"],
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=rate,
    )


def _distance(found: Any, exact: Any) -> float:
    """|found - exact| / |exact|; infinite where something is not finite."""
    found, exact = np.asarray(found, np.float64), np.asarray(exact, np.float64)
    error = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    return error if np.isfinite(error) else float("inf")


CHECKS = {"attention": check_attention, "gradients": check_gradients, "run": check_run}

if __name__ == "__main__":
    main()
