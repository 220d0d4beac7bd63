"""A user's mistakes: one line that says what was expected, a non-zero exit code, quickly, before JAX is imported."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError
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
        (("--confg=x",), "--confg: expected an option of this command, found another; the nearest is --config"),
        (("--config=absent.py", "--data_dir=x", "--workdir=y"), "expected a Python file such as"),
        ((TINY, "--config.train.stepz=3"), "found 'stepz'; the nearest is 'steps'"),
        ((TINY, "--config.nope.x=3"), "--config.nope.x: expected a field of config ("),
        ((TINY, "--config.train.steps=many"), "--config.train.steps: expected an integer"),
        ((TINY, "--config.model.num_attention_heads=3"), "expected a divisor of hidden_size=128, found 3"),
        ((TINY, "--config.train.dtype=float16"), "config.train.dtype: expected one of"),
        ((TINY, "--config.data.max_seq_length=1024"), "expected at most model.max_position_embeddings=512"),
        ((TINY, "--config.train.microbatches=5"), "expected a divisor of global_batch_size=32"),
        ((TINY, "--data_dir=absent", "--workdir=y"), "expected a prepared dataset in absent"),
        ((TINY, "stray", "--workdir=y"), "expected options only, found a word"),
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


HEADER = """
import dataclasses, logging, resource
from clinicalbert_jax import cli
from clinicalbert_jax.options import POSITIONAL, option
@dataclasses.dataclass(kw_only=True)
class Options:
    texts: tuple[str, ...] = option("Texts.", (), kind=POSITIONAL)
    top_k: int = option("How many.", 5, lowest=1)
    kind: str = option("A kind.", "a", choices=("a", "b"))
"""


def command(body: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", f"{HEADER}\n{body}\ncli.run(main, Options)", *arguments]


def said(body: str, *arguments: str) -> tuple[int, str]:
    """Exit code, and all that a command with this `main` prints."""
    done = subprocess.run(command(body, *arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_an_interruption_is_one_line() -> None:
    assert said("def main(options): raise KeyboardInterrupt") == (130, "error: interrupted\n")


MARKER = "Zyxquarrel"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("expected a b,\nfound c"), "expected a b, found c"),
        (PermissionError(13, MARKER, "FILE"), "cannot read or write FILE (Permission denied)"),
        (OSError(28, MARKER), "cannot read or write a file (No space left on device)"),
        (OSError(f"a library quotes {MARKER}"), "unexpected error (OSError at tests/"),
        (KeyError(MARKER), "unexpected error (KeyError at tests/"),
        (MemoryError(MARKER), "out of memory (MemoryError at tests/"),
        (RuntimeError(f"RESOURCE_EXHAUSTED: {MARKER}"), "out of memory (RuntimeError at tests/"),
    ],
)
def test_any_error_is_one_line_that_quotes_nothing(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["command"])
    try:
        raise error
    except Exception as caught:
        code, out = cli.outcome(caught)
    assert code == 2
    assert out.startswith(f"error: {line}")
    assert "\n" not in out
    assert MARKER not in out


def test_an_error_inside_a_library_names_the_line_of_ours_that_called_it() -> None:
    body = f"def main(options):\n    cli.json_of = __import__('json').loads('{MARKER}')"
    code, out = said(body)
    assert code == 2
    assert re.fullmatch(r"error: unexpected error \(JSONDecodeError at clinicalbert_jax/cli.py:\d+\): .*\n", out)
    code, out = said(body, "--debug")
    assert code == 2
    assert "Traceback" in out


def test_libraries_log_nothing_threads_print_one_line_and_memory_is_not_dumped() -> None:
    body = f"""
import threading
from absl import logging as absl_logging
def fails(): raise ValueError("{MARKER}")
def main(options):
    for name in (None, "absl", "a.library"):
        logging.getLogger(name).setLevel(1)
        logging.getLogger(name).critical("{MARKER}")
    absl_logging.error("{MARKER}")
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
"""
    code, out = said(body, "--verbosity=1")
    assert code == 0
    assert out.count("\n") == 1
    assert "unexpected error (ValueError at" in out
    assert MARKER not in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--top_k=Zyxquarrel came",), "--top_k: expected a positive integer"),
        (("--kind=Zyxquarrel came",), "--kind: expected one of a, b"),
        (("--Zyxquarrel came in",), "expected options of this command, found another"),
        (("- Zyxquarrel came",), "expected options of this command, found another"),
        (
            ("--top_k=5", "--knid=Zyxquarrel"),
            "--knid: expected an option of this command, found another; the nearest is",
        ),
        (("--debug=Zyxquarrel",), "--debug: expected true or false"),
        (("--top_k",), "--top_k: expected a value, found none"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_without_its_value(arguments: tuple[str, ...], line: str) -> None:
    code, out = said("def main(options): pass", *arguments)
    assert code == 2
    assert out.startswith(f"error: {line}")
    assert out.count("\n") == 1
    assert MARKER not in out


def test_a_config_that_fails_is_named_by_its_line(tmp_path: Path) -> None:
    for content, error in (("def x(:\n", "SyntaxError"), (f"x = {{}}['{MARKER}']\n", "KeyError")):
        (tmp_path / "config.py").write_text(content)
        code, out, _ = pretrain(f"--config={tmp_path / 'config.py'}", "--data_dir=x", "--workdir=y")
        assert (code, out.count("\n")) == (2, 1)
        assert f"({error} at {tmp_path / 'config.py'}:1)" in out
        assert MARKER not in out


def test_a_reader_that_has_enough_is_no_error() -> None:
    body = "def main(options):\n    for _ in range(100_000): print('x')"
    with subprocess.Popen(
        command(body), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize(
    ("installed", "files", "variable", "expected"),
    [
        ({"libtpu"}, False, None, "cpu"),
        ({"libtpu"}, True, None, None),
        ({"libtpu"}, False, "TPU_WORKER_ID", None),
        ({"libtpu", "jax_plugins"}, False, None, None),
        (set(), False, None, None),
    ],
)
def test_an_absent_tpu_is_not_looked_for(
    installed: set[str],
    files: bool,
    variable: str | None,
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in os.environ if name.startswith("TPU_")] + ["JAX_PLATFORMS"]:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "0")
    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: name in installed)
    monkeypatch.setattr(cli, "_TPU_FILES", (__file__ if files else "/nowhere/accel*",))
    cli._leave_out_absent_tpu()
    assert os.environ.get("JAX_PLATFORMS") == expected


def test_a_progress_bar_is_silent_in_a_log_for_half_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(cli.progress_bar(range(3), "reading")) == [0, 1, 2]
    assert capsys.readouterr().err == ""

    with cli.progress_bar(doing="reading", total=3) as bar:
        bar.start_t, bar.last_print_t = bar.start_t - 31, bar.last_print_t - 31
        bar.update(2)
    assert "reading:  67%" in capsys.readouterr().err

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    list(cli.progress_bar(range(3), "reading"))
    assert "reading:   0%" in capsys.readouterr().err


def test_progress_bars_are_made_in_one_place() -> None:
    root = Path(cli.__file__).parent
    files = [*root.rglob("*.py"), *(root.parent / "data_prep").rglob("*.py")]
    having = {str(path.relative_to(root.parent)) for path in files if "import tqdm" in path.read_text()}
    assert having == {"clinicalbert_jax/cli.py", "clinicalbert_jax/training/metrics.py"}
