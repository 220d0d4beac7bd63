"""A path of any printable characters is read literally by each option that takes one, or refused in one line.

Names of single files of notes are in data_prep/reading/test_files.py, outputs of the other commands in
test_two_at_once.py and files/test_atomic_output.py, directories of runs in runs/test_paths.py.
"""

import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import pytest
from absl import flags
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clinicalbert_jax import cli
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.finetune import command as finetune
from clinicalbert_jax.finetune import run as experiment
from clinicalbert_jax.finetune.config import FinetuneConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from data_prep import command as data_prep
from data_prep import prepare, verify
from tests.clinicalbert_jax.finetune import toy_bert

ALL = "".join(character for character in string.printable if character != "/")
# Names that mean something else to a shell, to flags, to globs, to CSV, to URLs, or to pathlib.
SPECIAL = [
    "~$no user",
    "-",
    "--input=x",
    "*",
    "[a-z]",
    "{a}",
    "a,b",
    ",",
    '"a","b"',
    "x=y",
    "gs:",
    "%20",
    " ",
    "a#b?c",
]
WORDS = [*(f"w{number}" for number in range(40)), *"abcdefghijklmnopqrstuvwxyz0123456789.:-"]

Options = TypeVar("Options")
names = st.text(st.sampled_from(ALL + "é中"), min_size=1, max_size=12).filter(lambda name: name.strip(".") != "")


def options_of(of: type[Options], options: Mapping[str, object]) -> Options:
    """The options as flags give them."""
    values = flags.FlagValues()
    cli.define_flags(of, values)
    values(["command", *(f"--{name}={value}" for name, value in options.items())])
    return cli.parsed(of, (), values)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eighty short notes of twenty patients."""
    rows = (f"p{n % 20},w{n % 40} w{n * 7 % 40} w{n * 3 % 40} . w{n // 2} w1 . w2 w{n % 30} ." for n in range(80))
    return "patient,text\n" + "\n".join(rows) + "\n"


def prepared(directory: Path, name: str, notes: str) -> tuple[Path, int]:
    """The dataset that every path of a preparation is called `name` for, and how many records it has."""
    place, salt = directory / name, directory / "salt"
    place.mkdir()
    vocabulary = Settings((*SPECIAL_TOKENS, *WORDS, *(f"##{word}" for word in WORDS)), True)
    files = {"input": f"{name}.csv", "exclude_patients": f"{name}.txt", "exclude_text": f"{name} text"}
    (place / files["input"]).write_text(notes)
    (place / files["exclude_patients"]).write_text("p3\n")
    (place / files["exclude_text"]).write_text(f"{'w5 w6 w7 ' * 8}\n")
    salt.write_bytes(bytes(range(32)))
    salt.chmod(0o600)
    tokenizer = place / f"{name} tokenizer"
    tokenizer.mkdir()
    bert_tokenizer.write(tokenizer, vocabulary)
    given = {option: place / file for option, file in files.items()} | {"vocab_file": tokenizer / "vocab.txt"}
    plain = {"text_column": "text", "patient_column": "patient", "max_seq_length": 16, "dupe_factor": 1}
    plain |= {"expect_excluded": 0, "validation_fraction": 0.2, "test_fraction": 0.2, "salt_file": salt}
    options = options_of(data_prep.Options, given | plain | {"output_dir": directory / f"{name} out"})
    dataset = prepare.run(options.prep, options.output_dir, options.engine)
    assert list(verify.faults(dataset, Manifest.load(dataset))) == []
    return dataset, Manifest.load(dataset).splits["train"].num_patients


@pytest.fixture(scope="module")
def plain(notes: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    return prepared(tmp_path_factory.mktemp("plain"), "plain", notes)


@settings(max_examples=2, derandomize=True)
@example(ALL)
@given(names)
def test_a_preparation_reads_and_writes_literally(
    notes: str, plain: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    directory = tmp_path_factory.mktemp("any")
    try:
        dataset, num_patients = prepared(directory, name, notes)
    except UserError as error:
        assert cli.outcome(error)[1].isprintable()
        assert name[0] in "._", "only names of hidden files are not read"
        assert not (directory / f"{name} out").exists(), "nothing was begun"
        return
    assert num_patients == plain[1]
    assert dataset.parent.parent.parent == directory
    for shard in plain[0].glob("*.tfrecord*"):
        assert (dataset / shard.name).read_bytes() == shard.read_bytes()
    assert {path.name for path in directory.iterdir()} == {name, f"{name} out", "salt"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_bert.write(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", [ALL, *SPECIAL])
def test_fine_tuning_reads_literally(bert: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths too, from the directory where the shell stands."""
    monkeypatch.chdir(tmp_path)
    reached: list[experiment.Data] = []
    monkeypatch.setattr(experiment, "run", lambda config, task, data, *others: reached.append(data) or 0)
    for directory in (Path(name), tmp_path / name):
        directory.mkdir(exist_ok=True)
        files = {split: directory / f"{name} {split}.tsv" for split in ("train", "validation", "test")}
        for split, path in files.items():
            path.write_text(f"aspirin\tB-DRUG\n\n{split}\tO\n")
        model = directory / f"{name} model"
        if not model.exists():
            model.symlink_to(bert)
        options = finetune.Options(
            config=FinetuneConfig(),
            model=str(model),
            workdir=str(tmp_path / "run"),
            reading=Reading(),
            **{split: str(path) for split, path in files.items()},  # type: ignore[arg-type]
        )
        assert finetune.run(options) == 0
        found = reached.pop()
        assert found.files == files
        assert [found.examples[split][1].content for split in files] == [(split,) for split in files]


@pytest.mark.fast
def test_an_entry_of_two_lines_is_refused_in_one() -> None:
    with pytest.raises(UserError, match=r"^--input: expected entries separated by commas, found a line end [^\n]*$"):
        options_of(data_prep.Options, {"input": "one\ntwo,three", "output_dir": "out", "train_vocab": True})


@pytest.mark.fast
def test_only_what_names_a_home_directory_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert patterns.expanded("~/notes.csv") == tmp_path / "notes.csv"
    assert patterns.expanded("~$notes.csv") == Path("~$notes.csv"), "no user is called that"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # neither HOME nor an entry of the user
    with pytest.raises(UserError, match=r"^~: expected a home directory, found none: set HOME"):
        patterns.expanded("~/notes.csv")
