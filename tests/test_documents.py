"""The documents are true: links resolve, commands parse, and what design.md names exists."""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import flags

from clinicalbert_jax import cli
from clinicalbert_jax.config import Config
from clinicalbert_jax.finetune.config import TASKS, FinetuneConfig

PROJECT = Path(__file__).parents[1]
DOCUMENTS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md")])
DESIGN = PROJECT / "docs/design.md"
PROGRAM = re.compile(
    r"(['\"]?)python\s+(?:-m\s+((?:data_prep|clinicalbert_jax|benchmarks)[\w.]*)|(run_pretrain)\.py)(?=\s|$)"
)
OF_OTHER_PROGRAMS = ("build", "requeue", "spot")

pytestmark = pytest.mark.fast


def named(document: Path) -> str:
    return document.relative_to(PROJECT).as_posix()


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if re.match(r"https?:", target):
            if not re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/\S*)?", target):
                broken.append(target)
            continue
        path, _, anchor = target.partition("#")
        file = document if not path else document.parent / path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_resolves(document: Path) -> None:
    assert broken_links(document) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# A part\n[1](#a-part) [2](#no) [3](b.md) [4](a.md#a-part) [5](http://x) `[6](c.md)`"
    )
    assert broken_links(tmp_path / "a.md") == ["#no", "b.md", "http://x"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_file_of_ours_that_a_document_names_exists(document: Path) -> None:
    roots = [PROJECT, PROJECT / "clinicalbert_jax", PROJECT / "data_prep"]
    paths = re.findall(r"`((?:[a-z_0-9]+/)+[\w.]+\.(?:py|sh|md))`", document.read_text())
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


def commands(document: Path) -> Iterator[tuple[str, list[str]]]:
    """(module, arguments) of each of our commands in a document's blocks of code."""
    text = document.read_text()
    blocks = [
        *re.findall(r"```\w*\n(.*?)```", text, re.DOTALL),
        "\n".join(re.findall(r"^    (.*)$", text, re.MULTILINE)),
    ]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(blocks)).splitlines():
        for found in PROGRAM.finditer(line.split(" #")[0]):
            rest = line[found.end() :].split(found[1])[0] if found[1] else line[found.end() :]  # a quoted command
            words = shlex.split(re.split(r"\s(?:\||>|&&?)(?:\s|$)|;", rest)[0], comments=True)
            words = [word.strip("[]").replace("/TASK.py", "/entities.py") for word in words]  # as in a synopsis
            yield found[2] or found[3], [word for word in words if not re.fullmatch(r"\$\w+|\.\.\.", word)]


def problem_of(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Why the command would be refused before it does anything; None where it would not."""
    is_package = (PROJECT / module.replace(".", "/")).is_dir()
    has_command = (PROJECT / module.replace(".", "/") / "command.py").exists()
    program = importlib.import_module(f"{module}.{'command' if has_command else '__main__'}" if is_package else module)
    problem = None
    for options in [value for name, value in vars(program).items() if name.endswith("Options")]:
        values = flags.FlagValues()
        cli.define_flags(options, values)
        argv = [module, *arguments]
        monkeypatch.setattr(sys, "argv", argv)  # overrides of a config are read from there
        try:
            cli.parsed(options, values(argv)[1:], values)
            return None
        except Exception as error:  # of absl, ml_collections, ours: each refuses the command
            problem = f"{module} {' '.join(arguments)}: {error}"
    return problem


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_command_parses(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    problems = [problem_of(*command, monkeypatch) for command in commands(document) if command[1] != ["--help"]]
    assert [problem for problem in problems if problem] == []


@pytest.mark.parametrize(
    "arguments",
    [
        "--data_dir=D --workdir=RUN --config=configs/tiny_128.py --nosuch=1",
        "--data_dir=D --workdir=RUN --config=configs/tiny_128.py --config.train.nosuch=1",
        "--data_dir=D --workdir=RUN --config=configs/nosuch.py",
        "--data_dir=D --config=configs/tiny_128.py",
    ],
)
def test_a_wrong_command_is_found(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    document = tmp_path / "a.md"
    document.write_text(f"```\npython run_pretrain.py \\\n    {arguments}  # comment\n```\n")
    (command,) = commands(document)
    assert problem_of(*command, monkeypatch)


def test_every_setting_that_a_document_names_is_a_field_of_a_config() -> None:
    configs = [Config(), *(FinetuneConfig(task=task()) for task in TASKS)]
    for document in DOCUMENTS:
        for setting in re.findall(r"--config\.([a-z][\w.]*)", document.read_text()):
            assert any(is_field(config, setting.split(".")) for config in configs), f"{document.name}: {setting}"


def is_field(config: object, names: list[str]) -> bool:
    return not names or (hasattr(config, names[0]) and is_field(getattr(config, names[0]), names[1:]))


def test_the_benchmarks_are_results_only() -> None:
    assert len((PROJECT / "docs/benchmarks.md").read_text().split()) <= 1500


def test_screenshots_are_small() -> None:
    pictures = list((PROJECT / "docs/images").iterdir())
    assert pictures and all(picture.stat().st_size < 300_000 for picture in pictures)


def test_every_option_that_a_document_names_is_one_of_some_command() -> None:
    folders = ("clinicalbert_jax", "data_prep", "benchmarks")
    files = [PROJECT / "run_pretrain.py", *(path for folder in folders for path in (PROJECT / folder).rglob("*.py"))]
    programs = [path for path in files if "cli.run(" in path.read_text("utf-8")]
    known = {"help", "config", "debug", "verbosity", *OF_OTHER_PROGRAMS}
    for path in programs:
        if path.name == "cli.py":
            continue
        program = importlib.import_module(".".join(path.relative_to(PROJECT).with_suffix("").parts))
        for options in [value for name, value in vars(program).items() if name.endswith("Options")]:
            values = flags.FlagValues()
            cli.define_flags(options, values)
            known |= set(values)
    mentioned = {
        (named(document), flag)
        for document in DOCUMENTS
        for flag in re.findall(
            r"`--(?:no)?([a-z_]+)[^`]*`", re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
        )
    }
    assert mentioned
    unknown = {(document, flag) for document, flag in mentioned if flag not in known and f"no{flag}" not in known}
    assert {(document, flag) for document, flag in unknown if not flag.startswith("xla_")} == set()


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", DESIGN.read_text(), re.DOTALL | re.MULTILINE)
    return found


def missing(table: str) -> list[str]:
    """The files and symbols of a table 'where to find what' that are not there. A symbol follows its file."""
    absent, file = [], Path()
    for name in re.findall(
        r"`([^`]+)`", "\n".join(row.split("|")[2] for row in table.splitlines() if row.count("|") == 3)
    ):
        if name.endswith(".py"):
            file = PROJECT / name
            if not file.exists():
                absent.append(name)
        elif (
            name != "Options"
            and "://" not in name
            and not re.search(rf"^(?:def |class |){name}\b", file.read_text(), re.MULTILINE)
        ):
            absent.append(f"{file.name}: {name}")
    return absent


def test_what_design_names_is_where_it_says() -> None:
    table = section("Where to find what")
    assert table.count("\n|") > 30
    assert missing(table) == []


def test_a_moved_file_or_symbol_is_found() -> None:
    table = "| a | `clinicalbert_jax/errors.py` `UserError` `NoSuch` |\n| b | `clinicalbert_jax/no_such.py` |"
    assert missing(table) == ["errors.py: NoSuch", "clinicalbert_jax/no_such.py"]


def test_the_layout_names_every_folder_and_no_module_that_is_not_there() -> None:
    text = section("Layout")
    modules = {path.stem for package in ("clinicalbert_jax", "data_prep") for path in (PROJECT / package).rglob("*.py")}
    folders = {
        path.parent for package in ("clinicalbert_jax", "data_prep") for path in (PROJECT / package).rglob("*.py")
    }
    words = set(re.findall(r"`([a-z_/]+)`", text))
    for word in words:
        name = word.rstrip("/").rsplit("/", 1)[-1]
        assert name in modules or any(folder.name == name for folder in folders), word
    for folder in folders:
        assert (
            any(word.rstrip("/").rsplit("/", 1)[-1] == folder.name for word in words) or f"{folder.name}/ |" in text
        ), folder
