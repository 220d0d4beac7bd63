"""The recipes of docs/cloud.md and deploy/: what can be checked without a cluster."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from absl import flags

from clinicalbert_jax import cli
from clinicalbert_jax.config import Config
from clinicalbert_jax.plan import topologies

PROJECT = Path(__file__).parents[1]
MANIFESTS = sorted((PROJECT / "deploy").glob("*.yaml"))
DOCUMENTS = [PROJECT / "docs/cloud.md", PROJECT / "deploy/slurm.sh", PROJECT / "Containerfile", *MANIFESTS]

pytestmark = pytest.mark.fast


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


def pods(manifest: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The specs of each Job and of its pods, inside a JobSet or not."""
    for document in yaml.safe_load_all(manifest.read_text()):
        if document["kind"] == "Job":
            jobs = [document["spec"]]
        elif document["kind"] == "JobSet":
            jobs = [job["template"]["spec"] for job in document["spec"]["replicatedJobs"]]
        else:
            jobs = []
        for job in jobs:
            yield job, job["template"]["spec"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.name)
def test_a_pod_has_no_privileges_and_time_to_save(manifest: Path) -> None:
    found = list(pods(manifest))
    assert found
    for job, pod in found:
        assert pod["restartPolicy"] == "Never", "a podFailurePolicy asks for it"
        assert pod["terminationGracePeriodSeconds"] >= 300, "a save must fit"
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
        assert {"/dev/shm", "/tmp"} <= set(mounts.values()), "what may be written to on a read-only root"
        assert all("emptyDir" in volume for volume in pod["volumes"] if mounts[volume["name"]] in ("/dev/shm", "/tmp"))
        codes = {
            code for rule in job["podFailurePolicy"]["rules"] for code in rule.get("onExitCodes", {}).get("values", [])
        }
        assert {75, 143} <= codes, "stopped by a signal is no failure, whether or not there was something to save"
        assert pod["shareProcessNamespace"] is True, "as process 1, Python would not be ended by an early SIGTERM"
        assert all(
            rule["onExitCodes"]["containerName"] == container["name"]
            for rule in job["podFailurePolicy"]["rules"]
            if "onExitCodes" in rule
        )
        assert job.get("completions") == job.get("parallelism")
        processes = [arg.split("=")[1] for arg in container["args"] if arg.startswith("--num_processes=")]
        assert processes in ([], [str(job.get("completions"))])


def test_the_slice_and_the_pods_of_the_tpu_manifest_agree() -> None:
    ((job, pod),) = pods(PROJECT / "deploy/gke-tpu.yaml")
    topology = topologies.parse("v5e:" + pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"])
    chips = int(pod["containers"][0]["resources"]["limits"]["google.com/tpu"])
    assert job["parallelism"] * chips == topology.num_chips


def test_the_recipes_for_tpus_share_a_bucket_and_no_volume() -> None:
    ((_, pod),) = pods(PROJECT / "deploy/gke-tpu.yaml")
    assert all("emptyDir" in volume for volume in pod["volumes"]), "each machine has disks of its own"
    (container,) = pod["containers"]
    cache = {entry["name"]: entry["value"] for entry in container["env"]}["XDG_CACHE_HOME"]
    assert cache in {mount["mountPath"] for mount in container["volumeMounts"]}, "the copies of a bucket need room"
    text = (PROJECT / "docs/cloud.md").read_text()
    sections = {section.partition("\n")[0]: section for section in text.split("\n## ")}
    arguments = container["args"] + re.findall(r"--\w+=[^\s\"]+", sections["TPU VMs"] + sections["GKE and XPK"])
    places = [value for argument in arguments for value in re.findall(r"^--(?:data_dir|workdir)=(.*)", argument)]
    assert len(places) == 6
    assert all(place.startswith("gs://BUCKET/") for place in places)
    extra = re.search(r"EXTRAS=(\S+) -t \S+-tpu", text)
    assert extra
    assert "gcs" in extra[1].split(","), "the image that the manifest names can read a bucket"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_flag_of_ours_exists(document: Path) -> None:
    # A command of ours goes to the end of its line, continued ones and YAML lists of arguments included.
    text = re.sub(r"\\\n\s*", " ", document.read_text())
    text = re.sub(r"\n\s*- (?=--)", " ", text)
    commands = re.findall(r"(run_pretrain\.py|-m (?:data_prep|clinicalbert_jax)\S*)([^\n`]*)", text)
    for program, arguments in commands:
        module = program.removeprefix("-m ").removesuffix(".py")
        is_package = (PROJECT / module.replace(".", "/")).is_dir()
        has_command = (PROJECT / module.replace(".", "/") / "command.py").exists()
        values = flags.FlagValues()
        cli.define_flags(
            importlib.import_module(
                f"{module}.{'command' if has_command else '__main__'}" if is_package else module
            ).Options,
            values,
        )
        known = {*values, "help"}
        for flag in re.findall(r"(?<=\s)--([\w.]+)", arguments):
            name, *fields = flag.split(".")
            assert name in known, f"{module} has no --{flag}"
            config: Any = Config()
            for field in fields:
                config = getattr(config, field)
        for config_file in re.findall(r"--config=(configs/\S+?\.py)", arguments):
            assert (PROJECT / config_file).exists()
        for topology in re.findall(r"--topology=(v\S+)", arguments):
            topologies.parse(topology)
    assert commands or document.name == "slurm.sh" or "pretrain" in text


def test_shell_and_yaml_of_the_documents_parse(tmp_path: Path) -> None:
    scripts = [*blocks(PROJECT / "docs/cloud.md", "(?:sh|bash)"), (PROJECT / "deploy/slurm.sh").read_text()]
    assert len(scripts) > 5
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, f"{checked.stderr}\n{script}"
    for manifest in blocks(PROJECT / "docs/cloud.md", "yaml"):
        assert list(yaml.safe_load_all(manifest))


def test_no_recipe_copies_the_whole_directory() -> None:
    """Notes, datasets and runs lie in the checkout of whoever follows the documentation."""
    for document in DOCUMENTS:
        text = re.sub(r"\\\n\s*", " ", document.read_text())
        for line in text.splitlines():
            copies = re.search(r"(^|\s)(scp|rsync|cp -r|tar [a-z]*c[a-z]*|COPY|ADD)\s", line)
            assert not (copies and re.search(r"\s\.(\s|$)", line)), f"{document.name}: {line}"


def test_git_and_the_image_ignore_notes_and_what_is_made_of_them() -> None:
    ignored = ("DATA/x", "RUN/config.json", "MODEL/model.safetensors", "demo/x", "NOTEEVENTS.csv", "a/b.csv.gz")
    found = subprocess.run(["git", "check-ignore", *ignored], cwd=PROJECT, capture_output=True, text=True, check=False)
    if found.returncode == 128:
        pytest.skip("not a git checkout")
    assert found.stdout.split() == list(ignored)
    committed = subprocess.run(["git", "ls-files", "-ci", "--exclude-standard"], cwd=PROJECT, capture_output=True)
    assert committed.stdout == b""
    assert (PROJECT / ".dockerignore").read_text() == (PROJECT / ".containerignore").read_text()


@pytest.mark.parametrize(
    ("digest", "accepted"),
    [
        ("", True),
        ("sha256:" + "0a" * 32, True),
        ("sha256:" + "0A" * 32, False),
        ("latest", False),
        ("sha256:0a", False),
    ],
)
def test_the_form_of_the_base_images_digest_is_checked(digest: str, accepted: bool) -> None:
    (check,) = re.findall(r"^RUN (.*BASE_DIGEST.*)$", (PROJECT / "Containerfile").read_text(), re.MULTILINE)
    done = subprocess.run(["sh", "-c", check], env=os.environ | {"BASE_DIGEST": digest}, check=False)
    assert (done.returncode == 0) == accepted


def test_requirements_have_hashes_and_leave_out_the_project() -> None:
    package = {
        "metadata": {"name": "a", "version": "1"},
        "download_info": {"archive_info": {"hashes": {"sha256": "0f"}}},
    }
    project = {"metadata": {"name": "b", "version": "2"}, "download_info": {"dir_info": {"editable": True}}}
    done = subprocess.run(
        [sys.executable, "deploy/hashed_requirements.py"],
        cwd=PROJECT,
        input=json.dumps({"install": [package, project]}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "a==1 --hash=sha256:0f\n"


def test_what_the_image_copies_exists_and_is_let_in() -> None:
    copied = [
        name
        for line in re.findall(r"^COPY (.*) \S+$", (PROJECT / "Containerfile").read_text(), re.MULTILINE)
        for name in line.split()
    ]
    let_in = re.findall(r"^!(\S+)$", (PROJECT / ".containerignore").read_text(), re.MULTILINE)
    assert sorted(copied) == sorted(let_in)
    assert all((PROJECT / name).exists() for name in copied)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on this machine")
@pytest.mark.parametrize(("code", "requeued"), [(75, True), (143, True), (0, False), (2, False)])
def test_the_slurm_script_passes_the_signal_on_and_requeues(tmp_path: Path, code: int, requeued: bool) -> None:
    """With an srun that waits for SIGTERM, as training does, and a scontrol that notes what it is asked for."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(
        f"#!/bin/bash\necho \"$@\" > {tmp_path}/asked\ntrap 'sleep 0.3; exit {code}' TERM\n"
        f"touch {tmp_path}/started\nwhile true; do sleep 0.1; done\n"
    )
    (programs / "scontrol").write_text(f'#!/bin/bash\necho "$@" > {tmp_path}/requeued\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "17",
        "DATA_DIR": "DATA",
        "RUN": "RUN",
    }
    job = subprocess.Popen(["bash", "deploy/slurm.sh", "--config.train.steps=9"], cwd=PROJECT, env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == code
    assert (tmp_path / "requeued").exists() == requeued
    assert not requeued or (tmp_path / "requeued").read_text() == "requeue 17\n"
    assert "--data_dir=DATA --workdir=RUN --config.train.steps=9" in (tmp_path / "asked").read_text()
