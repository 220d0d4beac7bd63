"""A process that times training steps on request; `benchmarks.train_step` starts several of them.

Reads one JSON line that says what to train, and answers with a JSON line when the step is compiled. Then it reads a
number of steps per line, takes these steps, and answers with the seconds of each.
"""

import dataclasses
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Batch = dict[str, np.ndarray]
# Takes that many steps and returns the seconds of each, from the end of the previous step to its own end.
Timer = Callable[[int], list[float]]

WARM_UP = 3


def main() -> None:
    spec = json.loads(sys.stdin.readline())
    if spec["threads"]:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["threads"]])
    with np.load(spec["batches"]) as arrays:
        count = 1 + max(int(name.split("/")[0]) for name in arrays)
        batches = [{n.split("/")[1]: a for n, a in arrays.items() if n.startswith(f"{i}/")} for i in range(count)]
    timer, device, figures, notes = (_ours if spec["framework"] == "jax" else _theirs)(spec, batches)
    timer(WARM_UP)
    _answer({"device": device, "notes": notes})
    for line in sys.stdin:
        started = time.process_time()
        seconds = timer(int(line))
        cpu_seconds = (time.process_time() - started) / len(seconds)
        _answer({"seconds": seconds, "cpu_seconds": cpu_seconds} | figures())


def _ours(spec: dict[str, Any], batches: list[Batch]) -> tuple[Timer, str, Callable[[], dict[str, int | None]], str]:
    from clinicalbert_jax import config
    from clinicalbert_jax.training import xla

    xla.configure()
    import jax

    from clinicalbert_jax.modeling import attention, bert
    from clinicalbert_jax.training import train_step
    from clinicalbert_jax.training.sharding import put_batch

    off = spec.get("without", "")
    if off == "padded vocabulary":
        config.VOCABULARY_MULTIPLE = 1
    if off == "dropout's generator":  # use the other one
        here = train_step.key_implementation(jax.default_backend())
        train_step.key_implementation = lambda platform: "rbg" if here == "threefry2x32" else "threefry2x32"
    if off == "one product for Q, K and V":
        bert.SelfAttention.projections = _three_products  # type: ignore[method-assign]
    experiment = config.Config(
        model=config.ModelConfig(**spec["model"]),
        data=config.DataConfig(max_seq_length=spec["layout"]["max_seq_length"]),
        optimizer=config.OptimizerConfig(schedule="constant", warmup_steps=10),
        train=config.TrainConfig(
            steps=1_000_000,
            global_batch_size=spec["batch_size"],
            dtype=spec["dtype"],
            attention="xla" if off == "fast attention" else spec["attention"],
            remat=off == "kept activations",
        ),
    )
    program = train_step.build(experiment, jax.devices()[:1])
    device = jax.devices()[0]
    xla.keep_freed_memory(device.platform)
    if off == "donated buffers":
        program = dataclasses.replace(program, compiled_step=jax.jit(program.compiled_step.__wrapped__))
    state = program.init()
    feed = _feed(spec, program, batches, lambda batch: put_batch(batch, program.mesh))

    def timer(count: int) -> list[float]:
        nonlocal state
        # The host runs one step ahead of the device, as in training.
        ends = [time.perf_counter()]
        before: Any = None
        for _ in range(count):
            state, happened = program.train_step(state, next(feed))
            if before is not None:
                jax.block_until_ready(before)
                ends.append(time.perf_counter())
            before = happened["grad_norm"]
        jax.block_until_ready(before)
        ends.append(time.perf_counter())
        if not np.isfinite(before):
            raise FloatingPointError("the benchmark's gradient is not finite")
        return np.diff(ends).tolist()

    def figures() -> dict[str, int | None]:
        statistics = device.memory_stats()
        peak_bytes = statistics["peak_bytes_in_use"] if statistics else _resident_bytes()
        return {"peak_bytes": peak_bytes, "compilations": program.compiled_step._cache_size()}

    chosen = attention.resolve(
        experiment.train.attention, device, experiment.model, spec["dtype"], spec["layout"]["max_seq_length"]
    ).name
    return timer, device.device_kind, figures, f"jax {jax.__version__}, attention by {chosen}"


def _feed(spec: dict[str, Any], program: Any, batches: list[Batch], put: Callable[[Batch], Any]) -> Iterator[Any]:
    if spec.get("data_dir"):
        from clinicalbert_jax.data.dataset import Dataset
        from clinicalbert_jax.training import train_loop

        yield from train_loop.training_batches(program, Dataset(Path(spec["data_dir"]), "train"), 0)
    while True:
        yield from map(put, batches)


def _three_products(self: Any, x_BxLxD: Any) -> tuple[Any, ...]:
    parts = (self.query, self.key, self.value)
    return tuple(part(x_BxLxD).reshape(*x_BxLxD.shape[:2], self.heads, -1) for part in parts)


def _theirs(spec: dict[str, Any], batches: list[Batch]) -> tuple[Timer, str, Callable[[], dict[str, int | None]], str]:
    import torch
    import transformers

    if spec["threads"]:
        torch.set_num_threads(spec["threads"])
    on_gpu = torch.cuda.is_available() and os.environ.get("JAX_PLATFORMS") != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    config = transformers.BertConfig(attn_implementation="sdpa", **spec["model"])
    model = transformers.BertForPreTraining(config).train().to(device)
    # As in Hugging Face's trainer: fused AdamW, no weight decay on biases and layer norms.
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, eps=1e-6, fused=True)
    torch.set_float32_matmul_precision("high" if spec["dtype"] == "bfloat16" else "highest")

    def loss_of(batch: dict[str, Any]) -> Any:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        if not spec["masked_only"]:
            return model(**inputs, labels=batch["labels"], next_sentence_label=batch["is_random"]).loss
        encoded = model.bert(**inputs)
        places_BxPxD = batch["places"][:, :, None].expand(-1, -1, config.hidden_size)
        masked_BxPxD = torch.gather(encoded.last_hidden_state, 1, places_BxPxD)
        words_BxPxV, next_Bx2 = model.cls(masked_BxPxD, encoded.pooler_output)
        cross_entropy = torch.nn.functional.cross_entropy
        word_loss = cross_entropy(words_BxPxV.view(-1, config.vocab_size), batch["words"].view(-1))
        return word_loss + cross_entropy(next_Bx2, batch["is_random"])

    run = torch.compile(loss_of) if on_gpu else loss_of
    on_host = [{name: torch.from_numpy(array) for name, array in _for_torch(batch).items()} for batch in batches]
    if on_gpu:
        on_host = [{name: array.pin_memory() for name, array in batch.items()} for batch in on_host]
    endless = itertools.cycle(on_host)

    def step() -> None:
        batch = {name: array.to(device, non_blocking=True) for name, array in next(endless).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=spec["dtype"] == "bfloat16"):
            loss = run(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def timer(count: int) -> list[float]:
        if not on_gpu:
            ends = [time.perf_counter()]
            for _ in range(count):
                step()
                ends.append(time.perf_counter())
            return np.diff(ends).tolist()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        events[0].record()
        for event in events[1:]:
            step()
            event.record()
        torch.cuda.synchronize()
        return [earlier.elapsed_time(later) / 1000 for earlier, later in itertools.pairwise(events)]

    def figures() -> dict[str, int | None]:
        peak_bytes = torch.cuda.max_memory_allocated() if on_gpu else _resident_bytes()
        return {"peak_bytes": peak_bytes, "compilations": None}

    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    notes = f"torch {torch.__version__}, transformers {transformers.__version__}{', compiled' if on_gpu else ''}"
    return timer, name, figures, notes


def _for_torch(batch: Batch) -> Batch:
    """The batch under Hugging Face's names, with label -100 where there is nothing to predict."""
    has_word_BxP = batch["masked_lm_weights"] > 0
    words_BxP = np.where(has_word_BxP, batch["masked_lm_ids"], -100).astype(np.int64)
    labels_BxL = np.full(batch["input_ids"].shape, -100, np.int64)
    rows, numbers = np.nonzero(has_word_BxP)
    labels_BxL[rows, batch["masked_lm_positions"][rows, numbers]] = words_BxP[rows, numbers]
    return {
        "input_ids": batch["input_ids"].astype(np.int64),
        "token_type_ids": batch["segment_ids"].astype(np.int64),
        "attention_mask": batch["sequence_ids"].astype(np.int64),
        "labels": labels_BxL,
        "places": batch["masked_lm_positions"].astype(np.int64),
        "words": words_BxP,
        "is_random": batch["next_sentence_labels"][:, 0].astype(np.int64),
    }


def _resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
