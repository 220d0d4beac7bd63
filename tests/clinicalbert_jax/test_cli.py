"""A user's mistakes: one line that says what was expected, a non-zero exit code, quickly, before JAX is imported."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests import toy_dataset

ROOT = Path(__file__).parents[2]
TINY = "--config=configs/tiny_128.py"

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset.write(tmp_path_factory.mktemp("data") / "toy", num_train=40)


def pretrain(*arguments: str, **environment: str) -> tuple[int, str, float]:
    """Exit code, standard error and seconds of CPU; JAX_PLATFORMS is nonsense, so that a run that reaches JAX shows it.

    CPU time, since what other tests do meanwhile must not count.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "run_pretrain.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "none_such"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, done.stderr, seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--config: expected a value, found none"),
        (("--confg=x",), "Unknown command line flag 'confg'"),
        (("--config=absent.py", "--data_dir=x", "--workdir=y"), "expected a Python file such as"),
        ((TINY, "--config.train.stepz=3"), "--config.train.stepz: expected a field of config.train (steps, "),
        ((TINY, "--config.nope.x=3"), "--config.nope.x: expected a field of config ("),
        ((TINY, "--config.train.steps=many"), "flag --config.train.steps=many"),
        ((TINY, "--config.model.num_attention_heads=3"), "expected a divisor of hidden_size=128, found 3"),
        ((TINY, "--config.train.dtype=float16"), "config.train.dtype: expected one of"),
        ((TINY, "--config.data.max_seq_length=1024"), "expected at most model.max_position_embeddings=512"),
        ((TINY, "--config.train.microbatches=5"), "expected a divisor of global_batch_size=32"),
        ((TINY, "--data_dir=absent", "--workdir=y"), "expected a prepared dataset in absent"),
        ((TINY, "stray", "--workdir=y"), "expected flags only, found 'stray'"),
    ],
)
def test_a_mistake_is_one_line_before_jax_is_imported(arguments: tuple[str, ...], message: str) -> None:
    code, error, seconds = pretrain(*arguments)
    assert code != 0
    assert message in error
    assert error.count("\n") == 1
    assert seconds < 5


def test_data_of_another_length_or_vocabulary_is_refused(data_dir: Path, tmp_path: Path) -> None:
    here = (f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}")
    code, error, _ = pretrain(TINY, *here)
    assert (code, error.count("\n")) == (2, 1)
    assert "config.data.max_seq_length: expected 128, found 32" in error
    code, error, _ = pretrain(TINY, *here, "--config.data.max_seq_length=32", "--config.model.vocab_size=28996")
    assert (code, error.count("\n")) == (2, 1)
    assert "config.model.vocab_size: expected 28996, found a vocabulary of 125" in error
    code, error, _ = pretrain(TINY, *here, "--config.data.max_seq_length=32", "--config.data.do_lower_case=false")
    assert (code, error.count("\n")) == (2, 1)
    assert "config.data.do_lower_case: expected False, found True" in error
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide_over_the_devices_is_refused(data_dir: Path, tmp_path: Path) -> None:
    code, error, seconds = pretrain(
        TINY,
        f"--data_dir={data_dir}",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.max_seq_length=32",
        "--config.train.global_batch_size=12",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    assert code == 2
    assert "expected a multiple of 8 devices × 1 microbatches, found 12" in error
    assert seconds < 15


def test_what_a_run_writes_is_readable_by_its_owner_alone(data_dir: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(
        TINY,
        f"--data_dir={data_dir}",
        f"--workdir={run}",
        "--config.data.max_seq_length=32",
        "--config.train.global_batch_size=12",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=8",
    )
    for path in run.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def command(body: str) -> list[str]:
    return [sys.executable, "-c", f"from clinicalbert_jax import commands\n{body}\ncommands.run(main)"]


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        ("KeyboardInterrupt", 130, "error: interrupted\n"),
        (
            "PermissionError(13, 'Permission denied', 'FILE')",
            2,
            "error: cannot read or write FILE (Permission denied)\n",
        ),
    ],
)
def test_an_interruption_or_a_file_out_of_reach_is_one_line(raised: str, code: int, line: str) -> None:
    done = subprocess.run(
        command(f"def main(argv): raise {raised}"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, line)


def test_a_reader_that_has_enough_is_no_error() -> None:
    body = "def main(argv):\n    for _ in range(100_000): print('x')"
    with subprocess.Popen(
        command(body), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
