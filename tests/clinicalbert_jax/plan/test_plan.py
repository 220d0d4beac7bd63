"""What plan says before a run is paid for, on this machine's (simulated) devices; TPUs: test_tpu_compilation."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clinicalbert_jax.config import Config, DataConfig, MeshConfig, ModelConfig, OptimizerConfig, TrainConfig
from clinicalbert_jax.data.dataset import Dataset
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.plan import compile_ahead, hlo, topologies
from clinicalbert_jax.plan.roofline import roofline
from clinicalbert_jax.training import mfu, train_step
from clinicalbert_jax.training.sharding import local_rows, put_batch
from tests import toy_dataset

PROJECT = Path(__file__).parents[3]
LAYOUT = Layout("padded", toy_dataset.LENGTH, toy_dataset.PREDICTIONS)


def config_with(*, fsdp: int = 1, batch: int = 16, microbatches: int = 1) -> Config:
    return Config(
        model=ModelConfig(
            vocab_size=len(toy_dataset.VOCABULARY),
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=64,
        ),
        data=DataConfig(max_seq_length=toy_dataset.LENGTH),
        optimizer=OptimizerConfig(schedule="constant", warmup_steps=0),
        mesh=MeshConfig(fsdp=fsdp),
        train=TrainConfig(global_batch_size=batch, microbatches=microbatches, dtype="float32"),
    )


@pytest.fixture(scope="module")
def on_eight() -> compile_ahead.Compiled:
    return compile_ahead.compile_step(config_with(), LAYOUT, jax.devices())


@pytest.mark.fast
def test_what_is_compiled_is_what_the_loader_supplies(tmp_path: Path) -> None:
    dataset = Dataset(toy_dataset.write(tmp_path / "toy"), "train")
    program = train_step.build(config_with())
    rows_R = local_rows(16, program.mesh)
    supplied = put_batch(dataset.train_batch(0, 0, 16, rows_R), program.mesh)
    planned = compile_ahead.abstract_batch(program, dataset.layout)
    described = {
        name: {key: (array.shape, array.dtype, array.sharding) for key, array in batch.items()}
        for name, batch in {"supplied": supplied, "planned": planned}.items()
    }
    assert described["planned"] == described["supplied"]


def test_each_parameter_is_reduced_once_over_all_devices(on_eight: compile_ahead.Compiled) -> None:
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(on_eight.program.abstract_state.params))
    sent = on_eight.summary.sent_bytes()
    assert list(sent) == ["all-reduce"]
    assert sent["all-reduce"] == pytest.approx(2 * 7 / 8 * size, rel=0.01)


@pytest.mark.fast
def test_the_state_is_cut_and_the_temporaries_grow_with_the_rows(on_eight: compile_ahead.Compiled) -> None:
    cut = compile_ahead.compile_step(config_with(fsdp=8, batch=64), LAYOUT, jax.devices())
    params = on_eight.program.abstract_state.params
    vectors = sum(4 * leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 1)
    assert cut.memory.parameters == (on_eight.memory.parameters - vectors) / 8 + vectors
    assert cut.memory.optimizer == pytest.approx((on_eight.memory.optimizer - 2 * vectors) / 8 + 2 * vectors, abs=30)
    assert cut.memory.temporaries > on_eight.memory.temporaries
    assert cut.memory.batch == pytest.approx(4 * on_eight.memory.batch, rel=0.1)


@pytest.mark.fast
@settings(max_examples=300)
@given(fixed=st.integers(0, 50), row=st.floats(0.1, 10.0), bend=st.floats(0.0, 5e-4), available=st.integers(1, 400))
def test_the_largest_batch_fits_and_is_found_in_a_few_compilations(
    fixed: int, row: float, bend: float, available: int
) -> None:
    """Whatever a row takes, and where memory grows a little faster than the rows do."""
    asked, unit = 1024, 4  # two devices, two microbatches

    def needed(batch: int) -> float:
        return fixed + row * (batch + bend * batch**2)

    def compile_step(config: Config, *_: object) -> SimpleNamespace:
        batch = config.train.global_batch_size
        assert batch % unit == 0
        if needed(batch) > available:
            raise compile_ahead.DoesNotFitError(needed(batch), available)
        return SimpleNamespace(memory=SimpleNamespace(total=needed(batch)))

    assume(needed(asked) > available)
    tried: list[str] = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(compile_ahead, "compile_step", compile_step)
        monkeypatch.setattr(compile_ahead, "on_a_device", lambda state: float(fixed))
        monkeypatch.setattr(compile_ahead.step, "build", lambda *_, **__: SimpleNamespace(abstract_state=None))
        found = compile_ahead.largest_batch(
            config_with(batch=asked, microbatches=2),
            LAYOUT,
            jax.devices()[:2],
            compile_ahead.DoesNotFitError(needed(asked), available),
            tried.append,
        )
    assert len(tried) <= 10
    if found is None:
        assert needed(unit) > available
    else:
        fits, does_not, _ = found
        assert needed(fits) <= available < needed(does_not)
        assert does_not - fits <= max(unit, fits / 20)


@pytest.mark.fast
def test_a_roofline_is_as_slow_as_its_slowest_part() -> None:
    chip = mfu.Chip("made up", peak_flops=100.0, memory_bytes=1.0, memory_bandwidth=10.0, link_bytes=1.0)
    sends = hlo.Collective("all-reduce", full_bytes=8, devices=4, times=2, shapes=((2,),))
    bound = roofline(
        hlo.Summary((sends,), (), (), 50.0), compiled_flops=300.0, model_flops=200.0, chip=chip, num_links=2
    )
    assert (bound.arithmetic_s, bound.memory_s, bound.links_s) == (3.0, 5.0, 2 * 2 * 3 / 4 * 8 / 2)
    assert bound.step_s == 12.0
    assert bound.mfu == pytest.approx(200 / 12 / 100)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "chips_", "links"),
    [("v5e:16x16", 256, 4), ("v5e:2x2", 4, 2), ("v6e:1x1", 1, 0), ("v4:2x2x1", 4, 2), ("v5p:4x4x8", 128, 6)],
)
def test_a_topology_that_exists(name: str, chips_: int, links: int) -> None:
    topology = topologies.parse(name)
    assert (topology.num_chips, topology.num_links) == (chips_, links)


@pytest.mark.fast
@pytest.mark.parametrize(
    "name", ["", "v5e", "v5e:", "v5e:3x3", "v5e:16x16x1", "v4:4x4", "v4:8x4x4", "v5p:-4x4x4", "tpu"]
)
def test_a_topology_that_does_not_exist_names_those_that_do(name: str) -> None:
    with pytest.raises(UserError, match=r"--topology: expected .*v[45][ep]?:\d+x\d+.*found") as error:
        topologies.parse(name)
    assert "\n" not in str(error.value)


def plan(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clinicalbert_jax.plan", "--config=configs/tiny_128.py", *flags],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_command_plans_for_this_machine() -> None:
    done = plan("--batch=16", "--config.mesh.fsdp=2", "--config.data.max_seq_length=32", "--vocab_size=1000")
    assert done.returncode == 0, done.stderr
    assert "batch 16 × 32 tokens on 8 × cpu of this machine; mesh data=4 fsdp=2" in done.stdout
    assert "compiling the train step" in done.stderr
    for expected in ("parameters", "optimizer", "total", "TFLOP", "all-gather", "no estimate of time"):
        assert expected in done.stdout


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--topology=v5e:5x5"], "--topology: expected one of v5e:1x1"),
        (["--batch=9"], "global_batch_size: expected a multiple of 8 devices"),
        (["--config.mesh.fsdp=3"], "config.mesh: expected data × fsdp to equal the 8 devices"),
        (["--config.train.dtype=float16"], "config.train.dtype: expected one of"),
        (["v5e:16x16"], "expected options only"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_compiled(flags: list[str], expected: str) -> None:
    done = plan(*flags)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {expected}") or expected in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""


def test_without_the_compiler_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"expected the TPU compiler \(libtpu\), found none .* pip install"):
        topologies.check_compiler()


def test_a_mesh_as_large_as_a_pod_is_read_as_the_compiler_writes_it() -> None:
    """Groups of devices come as lists, as an iota, and by the axes of a mesh."""
    text = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

ENTRY %main.1_spmd (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  %one = f32[8,128]{1,0:T(8,128)S(1)} all-reduce(%p), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  %two = (f32[8]{0:T(128)}, bf16[4]{0:T(128)(2,1)}) all-reduce(%p, /*index=1*/%p), replica_groups=[4,2]<=[8]
  %three = f32[2,128]{1,0:T(8,128)} reduce-scatter(%p), replica_groups=[2,4]<=[4,2]T(1,0), dimensions={0}, to_apply=%add
  ROOT %four = f32[32,128]{1,0} all-gather(%p), replica_groups=mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'b'}
}
"""
    found = hlo.summarize(text, 8)
    assert [(c.kind, c.full_bytes, c.devices) for c in found.collectives] == [
        ("all-reduce", 4096, 2),
        ("all-reduce", 40, 2),
        ("reduce-scatter", 4096, 4),
        ("all-gather", 16384, 4),
    ]
    np.testing.assert_allclose(list(found.sent_bytes().values()), [3 / 4 * 16384, 3 / 4 * 4096, 4096 + 40])
    # Read: one whole, two twice, three once, four once; written: all but what stays in vector memory (S).
    assert found.memory_bytes == 4096 * 5 + 40 + 1024 + 16384


def test_a_collective_in_a_loop_counts_as_often_as_it_runs_and_a_chain_once() -> None:
    text = """HloModule jit_step

%body (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %x = f32[4]{0} get-tuple-element(%s), index=1
  %bits = u32[3,5]{1,0} rng-bit-generator(%x), algorithm=rng_default
  %sum = f32[4]{0} all-reduce(%x), replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %t = (s32[], f32[4]) tuple(%x, %sum)
}

%condition (s: (s32[], f32[4])) -> pred[] {
  %limit = s32[] constant(6)
  ROOT %less = pred[] compare(%s, %limit), direction=LT
}

%start (p: bf16[4]) -> (bf16[4], bf16[16]) {
  %g0 = bf16[16]{0} all-gather(%p), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
  ROOT %c0 = (bf16[4], bf16[16]) custom-call(%g0), custom_call_target="AsyncCollectiveStart"
}

%middle (p: bf16[4]) -> (bf16[4], bf16[16]) {
  %g1 = bf16[16]{0} all-gather(%p), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
  ROOT %m = (bf16[4], bf16[16]) tuple(%p, %g1)
}

%done (p: bf16[4]) -> bf16[16] {
  %g2 = bf16[16]{0} all-gather(%p), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="0"}
  ROOT %c2 = bf16[16]{0} custom-call(%g2), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (p: bf16[4], s: (s32[], f32[4])) -> bf16[16] {
  %p = bf16[4]{0} parameter(0)
  %s = (s32[], f32[4]{0}) parameter(1)
  %loop = (s32[], f32[4]{0}) while(%s), condition=%condition, body=%body
  %first = (bf16[4], bf16[16]) fusion(%p), kind=kCustom, calls=%start
  %second = (bf16[4], bf16[16]) fusion(%p), kind=kOutput, calls=%middle
  ROOT %last = bf16[16]{0} fusion(%p), kind=kCustom, calls=%done
}
"""
    found = hlo.summarize(text, 4)
    assert sorted((c.kind, c.times) for c in found.collectives) == [("all-gather", 1), ("all-reduce", 6)]
    assert found.sent_bytes() == {"all-gather": 3 / 4 * 32, "all-reduce": 6 * 2 * 3 / 4 * 16}
    assert (found.loops, found.random_shapes) == ((6,), ((3, 5),))
