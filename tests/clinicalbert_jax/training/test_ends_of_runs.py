"""Whole runs that fail, or are stopped, at many moments: exit codes and seconds as a table, and what is left."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.runs import checksums, object_store
from clinicalbert_jax.training.distributed import EXIT_LOST
from clinicalbert_jax.training.stop_request import EXIT_RESUME
from tests import faulty_process, toy_dataset
from tests.clinicalbert_jax.finetune import toy_bert
from tests.clinicalbert_jax.finetune.compare import toy_comparison
from tests.clinicalbert_jax.runs.test_faults import planted
from tests.clinicalbert_jax.training.test_ends import ends, leaves, lines, start

pytestmark = pytest.mark.soak

SMALL = [
    "--config=configs/tiny_128.py",
    "--config.model.hidden_size=32",
    "--config.model.num_hidden_layers=1",
    "--config.model.num_attention_heads=2",
    "--config.model.intermediate_size=64",
    "--config.data.max_seq_length=32",
    "--config.optimizer.warmup_steps=3",
    "--config.optimizer.schedule=constant",
    "--config.train.global_batch_size=8",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=4",
    "--config.train.eval_every=6",
    "--config.train.steps=12",
]
LARGE = [
    "--config.model.num_hidden_layers=12",
    "--config.model.hidden_size=256",
    "--config.model.num_attention_heads=4",
]
NONE = ("none", "-", "0")
SAVE_S = 30  # at most two steps or batches of 3 s each (which are counted), and a save on a machine under load

Fault = tuple[str, str, str]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("base")
    toy_dataset.write(base / "data", num_train=40)
    return base


@pytest.fixture
def row(capsys: pytest.CaptureFixture) -> Callable[[str], None]:
    """Shows a row of the table."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n| {text}")

    return show


def command(
    base: Path, name: str, fault: Fault, *arguments: str, program: str = "run_pretrain", **variables: str
) -> subprocess.Popen:
    """A process of ours with that fault, and programs compiled once for all tests."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(base / "compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    program_with_fault = ["-m", "tests.faulty_process", *fault, str(base / name), program]
    return start([*program_with_fault, *arguments], **cache, **variables)


def pretrain(
    base: Path,
    run: str,
    faults: list[Fault],
    *more: str,
    data: list[str] | None = None,
    url: str = "",
    machine: str = "",
) -> list[subprocess.Popen]:
    """The processes of a run in `base`, or at a URL: then `machine` names where process 0 keeps its copy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for number, fault in enumerate(faults):
        joined = f"--coordinator_address=127.0.0.1:{port} --num_processes={len(faults)} --process_id={number}".split()
        processes.append(
            command(
                base,
                f"{run}.{number}.time",
                fault,
                *SMALL,
                f"--data_dir={base / (data[number] if data else 'data')}",
                f"--workdir={url or base / run}",
                *(joined if len(faults) > 1 else ()),
                *more,
                **({"XDG_CACHE_HOME": str(base / f"{machine}.{number}")} if url else {}),
            )
        )
    return processes


def seconds(base: Path, run: str, times: list[float], which: int = 0) -> list[float]:
    """From the fault, the first or another one, to the end of each process."""
    fault = min(float(path.read_text().split()[which]) for path in base.glob(f"{run}.*.time"))
    return [round(time - fault, 1) for time in times]


def with_damaged_records(base: Path, name: str) -> str:
    """A copy of the data with a wrong byte in most records, so that each process meets one within a few steps."""
    shutil.copytree(base / "data", base / name)
    for shard in Manifest.load(base / name).splits["train"].shards:
        content = bytearray((base / name / shard.file).read_bytes())
        for number in range(shard.num_examples):
            content[len(content) * (2 * number + 1) // (2 * shard.num_examples)] ^= 1
        (base / name / shard.file).write_bytes(content)
    return name


@pytest.mark.parametrize("faulty", [0, 1])
@pytest.mark.parametrize(
    ("what", "fault", "code", "line"),
    [
        ("a user error before the first step", ("user_error", "checking", "1"), 2, faulty_process.LINE),
        ("a user error between two steps", ("user_error", "step", "6"), 2, faulty_process.LINE),
        ("a damaged record", ("nothing", "damage", "1"), 2, "record "),
        ("an unexpected error", ("bug", "step", "6"), 2, "unexpected error (ZeroDivisionError at tests/"),
        ("an unexpected error in an evaluation", ("bug", "evaluation", "9"), 2, "unexpected error (ZeroDivisionError"),
        ("an error at a save", ("bug", "save", "2"), 2, "unexpected error (ZeroDivisionError"),
        ("a full disk", ("full_disk", "step", "6"), 2, "--workdir: "),
        ("an error at the publication of a checkpoint", ("bug", "publication", "2"), 2, "--workdir: the checkpoint"),
        ("killed", ("killed", "step", "6"), EXIT_LOST, "another process of the run was lost"),
    ],
)
def test_a_failure_of_one_process_ends_both(
    what: str, fault: Fault, code: int, line: str, faulty: int, base: Path, row: Callable[[str], None]
) -> None:
    if faulty and what in ("a full disk", "an error at the publication of a checkpoint"):
        pytest.skip("process 0 alone writes")
    run = re.sub(r"\W+", "-", f"{what} {faulty}")
    faults, data = [NONE, NONE], ["data", "data"]
    faults[faulty] = fault
    if what == "a damaged record":
        data[faulty] = with_damaged_records(base, f"{run}.data")
    codes, errors, times = ends(pretrain(base, run, faults, data=data), 600)
    took = seconds(base, run, times)
    row(f"{what} | {faulty} | {codes[0]}, {codes[1]} | {took[0]}, {took[1]}")
    if what == "killed":
        assert codes[faulty] == -signal.SIGKILL
        assert codes[1 - faulty] in (EXIT_LOST, -signal.SIGABRT), errors
    else:
        assert codes == [code, code], errors
        assert len(lines(errors)) == 1, errors
        assert line in lines(errors)[0]
    assert max(took) < 60
    for checkpoint in (base / run / "checkpoints").glob("[0-9]*"):
        assert not checksums.is_published(checkpoint) or checksums.damage(checkpoint) is None
    if what in ("killed", "a full disk"):
        (code,), errors, _ = ends(pretrain(base, run, [NONE]), 600)
        assert code == 0, f"the same command continues: {errors}"


def test_a_process_may_start_half_a_minute_after_the_others(base: Path) -> None:
    """Gloo waits for it: one process has its programs in the cache, another one compiles them."""
    codes, errors, _ = ends(pretrain(base, "late", [NONE, ("late", "initial", "1")]), 600)
    assert codes == [0, 0], errors


def test_damaged_records_that_each_process_of_two_skips_are_named(base: Path) -> None:
    data = [with_damaged_records(base, f"skipped-{number}.data") for number in range(2)]
    codes, errors, _ = ends(pretrain(base, "skipped", [NONE] * 2, "--config.data.on_corrupt=skip", data=data), 600)
    assert codes == [0, 0], errors
    codes, alone, _ = ends(pretrain(base, "skipped-alone", [NONE], "--config.data.on_corrupt=skip", data=data), 600)
    assert codes == [0], alone
    of_two, of_one = (set(re.findall(r"record \d+ of \S+ is damaged", error)) for error in (errors[0], alone[0]))
    assert of_two == of_one
    assert len(of_one) > 1


@pytest.fixture(scope="module")
def undisturbed(base: Path) -> list[np.ndarray]:
    (code,), errors, _ = ends(pretrain(base, "undisturbed", [NONE]), 600)
    assert code == 0, errors
    return leaves(base / "undisturbed")


@pytest.mark.parametrize(
    ("what", "fault", "limit"),
    [
        ("checking the data", ("slow", "checking", "1"), 10),
        ("in a native call before the first step", ("blocked", "compiling", "1"), 10),
        ("restoring a checkpoint", ("slow", "restoring", "1"), 10),
        ("between two steps of 3 s", ("slow", "step", "3"), SAVE_S),
        ("inside an evaluation of 7 batches of 3 s", ("slow", "evaluation", "8"), SAVE_S),
        ("inside the evaluation at the last step", ("slow", "evaluation", "20"), SAVE_S),
        ("while a save starts, 3 s", ("slow", "save", "1"), SAVE_S),
        ("while a checkpoint is published, 3 s", ("slow", "publication", "1"), SAVE_S),
    ],
)
def test_a_stop_is_quick_and_the_next_start_ends_as_if_undisturbed(
    what: str, fault: Fault, limit: float, base: Path, row: Callable[[str], None], undisturbed: list[np.ndarray]
) -> None:
    run = re.sub(r"\W+", "-", what)
    if what == "restoring a checkpoint":
        assert ends(pretrain(base, run, [NONE], "--config.train.steps=8"), 600)[0] == [0]
    (process,) = pretrain(base, run, [fault])
    wait_for(base / f"{run}.0.time", process)
    process.send_signal(signal.SIGTERM)
    sent = time.time()
    codes, errors, times = ends([process], 600)
    row(f"{what} | {codes[0]} | {times[0] - sent:.1f}")
    assert codes == [EXIT_RESUME], errors
    assert times[0] - sent < limit
    most = 3 if what.startswith("while a") else 2  # a save that was due may begin while the one before is published
    assert len((base / f"{run}.0.time").read_text().split()) <= most, "the present step, batch or save, and one more"
    if "evaluation" in what or "step" in what:
        assert ends(pretrain(base, run, [NONE]), 600)[0] == [0]
        for one, other in zip(leaves(base / run), undisturbed, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_stop_inside_a_compilation_is_quick(base: Path, row: Callable[[str], None]) -> None:
    (process,) = pretrain(base, "compilation", [NONE], *LARGE)
    assert process.stderr and "parameters" in process.stderr.readline()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    sent = time.time()
    codes, errors, times = ends([process], 600)
    row(f"inside a compilation of twelve layers | {codes[0]} | {times[0] - sent:.1f}")
    assert codes == [EXIT_RESUME], errors
    assert times[0] - sent < 10


@pytest.mark.parametrize(
    ("what", "fault"),
    [("a step of 3 s", ("slow", "step", "3")), ("an evaluation of 7 batches of 3 s", ("slow", "evaluation", "8"))],
)
def test_a_stop_of_one_process_of_two(what: str, fault: Fault, base: Path, row: Callable[[str], None]) -> None:
    run = re.sub(r"\W+", "-", f"two {what}")
    processes = pretrain(base, run, [fault, NONE])
    wait_for(base / f"{run}.0.time", processes[0])
    processes[1].send_signal(signal.SIGTERM)
    sent = time.time()
    codes, errors, times = ends(processes, 600)
    row(f"process 1 of two, in {what} | {codes[0]}, {codes[1]} | {max(times) - sent:.1f}")
    assert codes == [EXIT_RESUME, EXIT_RESUME], errors
    assert max(times) - sent < SAVE_S
    assert len((base / f"{run}.0.time").read_text().split()) <= 3, "the present step, or batch, and two more"
    assert ends(pretrain(base, run, [NONE, NONE]), 600)[0] == [0, 0]


def test_two_processes_roll_back_as_one_does(base: Path) -> None:
    planted(base / "data", base / "nan", {1, 2, 3})
    more = ["--config.train.max_skips=2", "--config.train.max_returns=50", "--config.train.checkpoint_every=2"]
    said = []
    for count in (1, 2):
        codes, errors, _ = ends(pretrain(base, f"nan-{count}", [NONE] * count, *more, data=["nan"] * count), 600)
        assert codes == [0] * count, errors
        said.append(re.findall(r"step \d+: (?:skipped|rolled back).*", errors[0]))
    assert any("rolled back" in line for line in said[0])
    assert said[0] == said[1]
    planted(base / "data", base / "all-nan", None)
    more[1] = "--config.train.max_returns=1"
    codes, errors, _ = ends(pretrain(base, "all-nan-run", [NONE] * 2, *more, data=["all-nan"] * 2), 600)
    assert codes == [2, 2], errors
    assert len(lines(errors)) == 1, errors
    assert "2 steps in a row had no finite loss" in lines(errors)[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of moto's and s3fs's own libraries
def test_an_upload_that_fails_for_a_minute_ends_both(bucket: str, base: Path, row: Callable[[str], None]) -> None:
    faults, at = [("unreachable", "upload", "1"), NONE], {"url": f"{bucket}/run", "machine": "unreachable"}
    codes, errors, times = ends(pretrain(base, "upload", faults, **at), 600)
    took, since_the_first = seconds(base, "upload", times, -1), seconds(base, "upload", times)
    said = f"{took[0]}, {took[1]} after the last attempt; the first was {since_the_first[0]} before the end"
    row(f"an upload, for a minute | 0 | {codes[0]}, {codes[1]} | {said}")
    assert codes == [2, 2], errors
    assert lines(errors) == [f"error: {faulty_process.LINE}"]
    assert max(took) < 60
    codes, errors, _ = ends(pretrain(base, "upload", [NONE, NONE], **at), 600)
    assert codes == [0, 0], f"the same command sends what is missing: {errors}"
    assert whole_in_the_bucket(f"{bucket}/run") == {4, 8, 12}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("what", "fault", "limit"),
    [
        ("in a native call before the first step, of a run in a bucket", ("blocked", "compiling", "1"), 10),
        ("while a checkpoint is uploaded, a pause of 3 s", ("paused", "upload", "3"), SAVE_S),
        ("while the last checkpoint is uploaded, a pause of 3 s", ("paused", "upload", "50"), SAVE_S),
    ],
)
def test_a_stop_of_a_run_in_a_bucket_leaves_it_to_another_machine(
    what: str,
    fault: Fault,
    limit: float,
    bucket: str,
    base: Path,
    row: Callable[[str], None],
    undisturbed: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    run, url = re.sub(r"\W+", "-", what), f"{bucket}/run"
    (process,) = pretrain(base, run, [fault], url=url, machine=f"{run}-first")
    wait_for(base / f"{run}.0.time", process)
    process.send_signal(signal.SIGTERM)
    sent = time.time()
    codes, errors, times = ends([process], 600)
    row(f"{what} | {codes[0]} | {times[0] - sent:.1f}")
    assert codes == [EXIT_RESUME], errors
    assert times[0] - sent < limit
    saved, started = re.findall(r"^stopped at step (\d+), saved", errors[0], re.MULTILINE), time.time()
    codes, errors, times = ends(pretrain(base, run, [NONE], url=url, machine=f"{run}-second"), 600)
    assert codes == [0], errors
    assert "waiting for" not in errors[0], f"{times[0] - started:.0f} s"
    if what.startswith("while"):  # after the last step, or before it
        expected = f"continuing from step {saved[0]}" if saved else "is at step 12 of 12"
        assert expected in errors[0], "all that was saved is in the bucket"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for one, other in zip(leaves(object_store.run(url)), undisturbed, strict=True):
        np.testing.assert_array_equal(one, other)


def whole_in_the_bucket(url: str) -> set[int]:
    s3fs = pytest.importorskip("s3fs")
    found = s3fs.S3FileSystem(use_listings_cache=False).glob(f"{url}/checkpoints/*/{checksums.FILE_NAME}")
    return {int(Path(name).parent.name) for name in found}


def wait_for(path: Path, process: subprocess.Popen) -> None:
    deadline = time.time() + 600
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.time() < deadline
        time.sleep(0.02)


# Fine-tuning: the processes are started as Open MPI does, since the command has no flags for them.


@pytest.fixture(scope="module")
def files(base: Path) -> list[str]:
    model = toy_bert.write((base / "model").parent)
    flags = [f"--model={model}"]
    for split, count in (("train", 48), ("validation", 12), ("test", 12)):
        words = ("aspirin\tB-DRUG", "fever\tB-PROBLEM", "liver\tO")
        sentences = [f"the\tO\n{words[number % 3]}\n" for number in range(count)]
        (base / f"{split}.tsv").write_text("\n".join(sentences))
        flags.append(f"--{split}={base / f'{split}.tsv'}")
    settings = "--config.max_steps=8 --config.evaluations_per_epoch=2 --config.log_every=4 --config.seeds=(0,)"
    return ["--config=configs/finetune/entities.py", *flags, *settings.split()]


def finetune(base: Path, run: str, faults: list[Fault], files: list[str]) -> list[subprocess.Popen]:
    job = int(np.random.default_rng().integers(4096))
    processes = []
    for number, fault in enumerate(faults):
        os.environ.update(
            {}
            if len(faults) == 1
            else {
                "OMPI_MCA_orte_hnp_uri": f"{job}.0;tcp://127.0.0.1:1",
                "OMPI_COMM_WORLD_SIZE": str(len(faults)),
                "OMPI_COMM_WORLD_RANK": str(number),
                "OMPI_COMM_WORLD_LOCAL_RANK": str(number),
            }
        )
        arguments = [*files, f"--workdir={base / run}{'-not-shared' if number else ''}"]
        processes.append(command(base, f"{run}.{number}.time", fault, *arguments, program="finetune"))
        for name in [name for name in os.environ if name.startswith("OMPI_")]:
            del os.environ[name]
    return processes


def test_fine_tuning_by_two_processes_waits_for_the_last_checkpoint(base: Path, files: list[str]) -> None:
    results = []
    for run, fault in (("two", NONE), ("two-slow", ("slow", "publication", "1"))):
        codes, errors, _ = ends(finetune(base, run, [fault, NONE], files), 600)
        assert codes == [0, 0], errors
        results.append((base / run / "results.json").read_text().split('"checksum"')[0])
        predictions = (base / run / "seed-0" / "test.jsonl").read_text()
        assert predictions.count("\n") == 12
    assert results[0] == results[1]


@pytest.mark.parametrize("faulty", [0, 1])
@pytest.mark.parametrize("moment", ["prediction", "results"])
def test_a_failure_of_one_process_ends_a_fine_tuning(
    moment: str, faulty: int, base: Path, files: list[str], row: Callable[[str], None]
) -> None:
    if moment == "results" and faulty:
        pytest.skip("process 0 alone writes them")
    faults = [NONE, NONE]
    faults[faulty] = ("user_error", moment, "1")
    run = f"finetune-{moment}-{faulty}"
    codes, errors, times = ends(finetune(base, run, faults, files), 600)
    took = seconds(base, run, times)
    row(f"fine-tuning, a user error at {moment} | {faulty} | {codes[0]}, {codes[1]} | {took[0]}, {took[1]}")
    assert codes == [2, 2], errors
    assert len(lines(errors)) == 1, errors
    assert max(took) < 60


@pytest.mark.parametrize("moment", ["prediction", "results"])
def test_a_stop_after_training_is_quick(moment: str, base: Path, files: list[str], row: Callable[[str], None]) -> None:
    run = f"finetune-stop-{moment}"
    # Four validations come first: the fifth prediction is of the trained model.
    (process,) = finetune(base, run, [("blocked", moment, "5" if moment == "prediction" else "1")], files)
    wait_for(base / f"{run}.0.time", process)
    process.send_signal(signal.SIGTERM)
    sent = time.time()
    codes, errors, times = ends([process], 600)
    row(f"fine-tuning, trained, at {moment} | {codes[0]} | {times[0] - sent:.1f}")
    assert codes == [EXIT_RESUME], errors
    assert times[0] - sent < 10
    assert ends(finetune(base, run, [NONE], files), 600)[0] == [0]
    assert (base / run / "results.json").exists()


def test_a_comparison_stopped_in_and_between_its_trainings_ends_in_the_same_scores(
    base: Path, row: Callable[[str], None]
) -> None:
    model = toy_comparison.write_model(base / "compared", 16)
    tasks = toy_comparison.write_tasks(base / "compared", steps=6)  # so that the 8th is of the second training

    def compare(name: str, fault: Fault) -> subprocess.Popen:
        arguments = [f"--models=small={model}", f"--tasks={tasks}", "--seeds=2", f"--workdir={base / name}"]
        return command(base, f"{name}-{fault[1]}.time", fault, *arguments, program="compare")

    assert ends([compare("compared-undisturbed", NONE)], 600)[0] == [0]
    for what, fault, limit in (
        ("in a step of 3 s of its second training", ("slow", "step", "8"), SAVE_S),
        ("in a native call between two trainings", ("blocked", "between", "1"), 10),
        ("in a native call while a training's model predicts", ("blocked", "prediction", "4"), 10),
    ):
        process = compare("compared-stopped", fault)
        wait_for(base / f"compared-stopped-{fault[1]}.time", process)
        process.send_signal(signal.SIGTERM)
        sent = time.time()
        codes, errors, times = ends([process], 600)
        row(f"a comparison, {what} | {codes[0]} | {times[0] - sent:.1f}")
        assert codes == [EXIT_RESUME], errors
        assert times[0] - sent < limit
    assert ends([compare("compared-stopped", NONE)], 600)[0] == [0]
    found, expected = ((base / f"compared-{name}" / "scores.csv").read_text() for name in ("stopped", "undisturbed"))
    assert found == expected
