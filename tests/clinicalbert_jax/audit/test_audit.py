"""An audit of a model that memorised its notes finds it, says so, and quotes none of them; and what it refuses."""

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

from clinicalbert_jax.audit import command, findings, losses, page, people, planted, texts
from clinicalbert_jax.audit.command import Options
from clinicalbert_jax.audit.people import Sentence
from clinicalbert_jax.audit.texts import Windows
from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.data import counter_rng, masking
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.inference import Inference
from clinicalbert_jax.modeling import bert
from clinicalbert_jax.pretrained import huggingface, loading
from clinicalbert_jax.runs import provenance
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from clinicalbert_jax.training import xla
from clinicalbert_jax.training.losses import token_cross_entropy
from data_prep import prepare
from data_prep.canaries import planting, private_file, secrets
from data_prep.canaries.private_file import Content
from data_prep.prepare import EngineConfig
from data_prep.wordpiece.tokenizer import Tokenizer
from tests import toy_dataset
from tests.clinicalbert_jax.audit import memorised
from tests.clinicalbert_jax.modeling import random_weights

ROOT = Path(__file__).parents[3]
CANARIES, STEPS = 28, 1300
NAMES = [f"Zyxquarrel{number}" for number in range(30)]


def program(*arguments: str, config_home: str = "") -> str:
    """What a program says, at the highest verbosity."""
    environment = os.environ | {"XLA_FLAGS": ""} | ({"XDG_CONFIG_HOME": config_home} if config_home else {})
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the dataset `notes`, the private file notes.json and a run that memorised the notes."""
    directory = tmp_path_factory.mktemp("memorised")
    program("tests.clinicalbert_jax.audit.memorised", str(directory), str(CANARIES), str(STEPS))
    return directory


def data_of(directory: Path, name: str = "notes") -> Path:
    return next((directory / name).glob("*/1.0.0"))


@pytest.fixture(scope="module")
def said(trained: Path) -> str:
    """What the command says; its report lies in `trained / "report"`."""
    conditions = [secrets.CONDITIONS[number % 5] for number in range(len(NAMES))]
    (trained / "names.csv").write_text("".join(f"{n},{c}\n" for n, c in zip(NAMES, conditions, strict=True)))
    return program(
        "clinicalbert_jax.audit",
        f"--model={trained / 'run'}",
        f"--data_dir={data_of(trained)}",
        f"--canaries={trained / 'notes.json'}",
        f"--names={trained / 'names.csv'}",
        f"--output={trained / 'report'}",
        "--verbosity=1",
    )


@pytest.fixture(scope="module")
def document(trained: Path, said: str) -> dict:
    return json.loads((trained / "report" / "audit.json").read_text())


def test_what_was_memorised_is_found(document: dict) -> None:
    found = document["membership"]["attacks"]["loss"]["patient"]["own_text"]
    assert found["auc"]["value"] > 0.9
    assert found["auc"]["low"] > 0.5
    assert found["true_positive_rate"] == {"0.01": None, "0.001": None}, "not with so few patients"
    assert document["membership"]["fraction_of_shared_windows"] == 0.0


def test_exposure_rises_with_repeats(document: dict) -> None:
    rows = [row for row in document["canaries"]["by_repeats"] if row["planted"]]
    few = [row["planted"]["mean"] for row in rows if row["repeats"] <= 2]
    many = [row["planted"]["mean"] for row in rows if row["repeats"] >= 16]
    left_out = [row["left_out"]["mean"] for row in document["canaries"]["by_repeats"] if row["left_out"]]
    assert min(many) > 8 > max(few) + 1
    assert np.mean(left_out) < 3


def test_no_text_and_no_secret_is_in_the_report_or_said(trained: Path, said: str, document: dict) -> None:
    candidates = private_file.read(trained / "notes.json", "--canaries").candidates
    secret = [one.secret for one in candidates] + [one.secret.replace(" ", "") for one in candidates]
    marked = [*secret, *NAMES, "patient number is"]
    words_of_notes = {word for word in memorised.WORDS if word.endswith("lin")}  # English has none of them
    assert len(words_of_notes) == 55
    written = [path for path in (trained / "report").rglob("*") if path.is_file()]
    assert sorted(path.name for path in written) == ["audit.html", "audit.json"]
    card = page.section(document)
    for text in (said, card, (trained / "run" / "audit.json").read_text(), *(path.read_text() for path in written)):
        assert not [one for one in marked if one.lower() in text.lower()]
        assert not set(re.findall("[a-z]+", text.lower())) & words_of_notes


def test_the_page_and_the_card_say_what_was_found(trained: Path, document: dict) -> None:
    html = (trained / "report" / "audit.html").read_text()
    for words in ("tells patients it was trained on from others", "median exposure", "cannot be measured here"):
        assert words in html
    for words in (
        "Not tested: whole notes",
        document["model_sha256"],
        document["shards_sha256"],
        "Exposure by repeats",
    ):
        assert words in html
    card = page.section(document)
    assert "tells patients it was trained on from others" in card
    assert "Not audited" in page.section(None)


def options_for(trained: Path, **changes: object) -> Options:
    given = {"model": str(trained / "run"), "data_dir": str(data_of(trained)), "output": str(trained / "out")}
    return Options(**given | {"canaries": str(trained / "notes.json")} | changes)  # type: ignore[arg-type]


def test_an_estimate_scores_nothing(trained: Path, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts what the command said that it would score, and says how long canaries and names will take too."""
    command.run(options_for(trained, estimate=True, names=str(trained / "names.csv")))
    shown = re.findall(r"([\d,]+) tokens of notes to score, about .* here", said + capsys.readouterr().err)
    assert len(shown) == 2
    assert shown[0] == shown[1]
    assert not list((trained / "out").iterdir())


def test_what_cannot_be_audited_is_refused(trained: Path, toy: tuple[Path, Path], tmp_path: Path) -> None:
    other = memorised.prepared(tmp_path, "other", seed=1)
    with_canaries = memorised.prepared(tmp_path, "second", canaries=28, seed=1)
    copy = shutil.copytree(trained / "run", tmp_path / "copy")
    mistakes = {
        "expected a model with the vocabulary of": {"model": str(toy[1])},
        "says what it was trained on": {"model": str(random_model(tmp_path / "random", data_of(trained)))},
        "trained on another preparation": {"data_dir": str(other), "canaries": None},
        "found those of another preparation": {"canaries": str(tmp_path / "second.json")},
        "expected the private file of the canaries": {"canaries": None},
        "expected the file that data_prep --canaries wrote": {"canaries": str(data_of(trained) / "manifest.json")},
        "expected another model than --model": {"reference": str(trained / "run")},
        "expected a model that did not see these data": {"reference": str(copy)},
        "--names: expected a CSV file": {"names": str(trained / "notes.json")},
    }
    assert with_canaries.exists()
    for message, changes in mistakes.items():
        with pytest.raises(UserError, match=message) as raised:
            command.check(options_for(trained, **changes))
        assert "\n" not in str(raised.value)


def read(data: Path, patients: int = 1000, most: int = 4) -> Windows:
    return texts.read(data, Manifest.load(data), tokenizer_of(data), patients, most, 0)


def tokenizer_of(data: Path) -> Tokenizer:
    return Tokenizer(bert_tokenizer.read(data))


def random_model(directory: Path, data: Path) -> Path:
    """A model of random weights with the vocabulary of the data, of unknown training."""
    config = dataclasses.replace(CONFIG, vocab_size=len(tokenizer_of(data).vocabulary), max_position_embeddings=48)
    params = random_weights.draw(config, 0)
    directory.mkdir()
    huggingface.write_directory(directory, config, params, data)
    return directory


def test_a_reference_with_the_weights_of_the_model_is_refused_before_anything_is_scored(
    toy: tuple[Path, Path], tmp_path: Path
) -> None:
    data, model = toy
    sources = [loading.find(str(one)) for one in (model, shutil.copytree(model, tmp_path / "copy"))]
    inputs = command.Inputs(sources[0], sources[1], data, Manifest.load(data), tokenizer_of(data), None, [], "")
    windows, output = some_windows([20] * 60, len(toy_dataset.VOCABULARY)), tmp_path / "out"
    output.mkdir()
    with pytest.raises(UserError, match="found the same weights"):
        command.audit(inputs, windows, Options(model="", data_dir="", output=""), output)
    assert not list(output.iterdir())


def test_too_few_patients_are_refused(tmp_path: Path) -> None:
    data = memorised.prepared(tmp_path, "notes", version="1.0.0")
    with pytest.raises(UserError, match="at least 30 patients with text") as raised:
        command.check_patients(read(data, patients=29))
    assert "\n" not in str(raised.value)
    command.check_patients(read(data, patients=30))


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_windows_are_the_text_of_their_own_patient_once(tmp_path: Path, layout: str) -> None:
    """Every token of the notes, of one pass of three, and none of a random next."""
    data = memorised.prepared(tmp_path, "notes", layout=layout, dupe_factor=3, masking="static")
    manifest = Manifest.load(data)
    windows = read(data, most=10**6)
    for split, is_member in (("train", True), ("test", False)):
        tokens = int(windows.length_W[windows.is_member_W == is_member].sum())
        expected = manifest.extra["statistics"][split]["num_pieces"]
        assert 0.8 * expected < tokens <= expected, "all but the shortest"
    assert (windows.times_W[windows.is_member_W] <= 1).all()
    assert not windows.is_shared_W.any()
    memorised_rows = {patient: [] for patient in range(memorised.NUM_PATIENTS)}
    for number, row in enumerate((tmp_path / "notes.csv").read_text().splitlines()[1:]):
        memorised_rows[number % memorised.NUM_PATIENTS].append(row.split(",", 2)[2].lower().replace(".", " ."))
    tokenizer, notes = tokenizer_of(data), {" ".join(found) for found in memorised_rows.values()}
    patients: dict[int, set[str]] = {}
    for number, patient in enumerate(windows.patient_W.tolist()):
        ids = windows.ids_T[windows.offset_W[number] : windows.offset_W[number + 1]]
        text = " ".join(tokenizer.vocabulary[i] for i in ids).replace(" ##", "")
        holding = {note for note in notes if text in note}
        assert holding, "the text of a window is one piece of a patient's notes"
        patients[patient] = patients.get(patient, holding) & holding
    assert all(patients.values()), "and all windows of a patient are of the same patient's notes"


def test_shared_and_repeated_text_is_known(tmp_path: Path) -> None:
    """Each note holds the text of the next patient's too: also of patients who are not scored themselves."""
    data = memorised.prepared(tmp_path, "notes")
    assert not read(data).is_shared_W.any()
    rows = [row.split(",", 2) for row in (tmp_path / "notes.csv").read_text().splitlines()]
    following = [*rows[2:], rows[1]]
    copied = [rows[0], *([*row[:2], f"{row[2]} {after[2]}"] for row, after in zip(rows[1:], following, strict=True))]
    (tmp_path / "copied.csv").write_text("".join(f"{','.join(row)}\n" for row in copied))
    config = memorised.config_of(tmp_path / "copied.csv", tmp_path / "vocab.txt")
    shared = read(prepare.run(config, tmp_path / "copied", EngineConfig(num_workers=1)), patients=30, most=10**6)
    # Not all: a window may span two notes, and the other patient's rows begin elsewhere.
    assert shared.is_shared_W[shared.length_W > 20].mean() > 0.8
    assert set(shared.times_W[shared.is_member_W].tolist()) <= {0, 1, 2}
    assert (shared.times_W == 2).any()
    # Copies in notes of the test split do not count.
    rule, tokenizer = config.selection.split_rule, tokenizer_of(data)
    train = [row[2].lower().replace(".", " .") for row in copied[1:] if rule.split_of(row[0]) == "train"]
    for number in np.flatnonzero(shared.is_member_W & (shared.times_W > 0)):
        ids = shared.ids_T[shared.offset_W[number] : shared.offset_W[number + 1]]
        words = " ".join(tokenizer.vocabulary[i] for i in ids).replace(" ##", "").split()
        runs = [" ".join(words[at : at + 13]) for at in range(len(words) - 12)]
        assert shared.times_W[number] <= max(sum(run in one for one in train) for run in runs)


def test_text_that_a_patient_has_given_is_not_scored_again(tmp_path: Path) -> None:
    """Each note comes twice, with a word more: both are in the dataset, and little of the second in the windows."""
    memorised.write_notes(tmp_path / "once.csv", seed=0, sentences=12)
    memorised.write_vocabulary(tmp_path / "vocab.txt")
    header, *rows = (tmp_path / "once.csv").read_text().splitlines()
    (tmp_path / "twice.csv").write_text("\n".join([header, *rows, *(f"{row} Again." for row in rows)]) + "\n")
    tokens, scored = [], []
    for name in ("once", "twice"):
        config = memorised.config_of(tmp_path / f"{name}.csv", tmp_path / "vocab.txt")
        config = dataclasses.replace(config, near_duplicate_threshold=2.0, max_seq_length=128)
        data = prepare.run(config, tmp_path / name, EngineConfig(num_workers=1))
        tokens.append(Manifest.load(data).extra["statistics"]["train"]["num_pieces"])
        scored.append(int(read(data, most=10**6).length_W.sum()))
    assert tokens[1] > 1.9 * tokens[0]
    assert scored[1] < 1.3 * scored[0]


def test_the_sentence_of_a_canary_is_no_text_of_a_patient(tmp_path: Path) -> None:
    data = memorised.prepared(tmp_path, "notes", canaries=28)
    tokenizer, manifest = tokenizer_of(data), Manifest.load(data)
    candidates = private_file.read(tmp_path / "notes.json", "--canaries").candidates
    tokens = planting.tokens_of([one for one in candidates if one.is_planted], tokenizer)
    form = " ".join(map(str, tokens[0][:3].tolist()))  # how each of them begins
    found = []
    for planted_sentences in ([], tokens):
        windows = texts.read(data, manifest, tokenizer, 1000, 10**6, 0, planted_sentences)
        pieces = np.split(windows.ids_T, windows.offset_W[1:-1])
        found.append(sum(form in " ".join(map(str, ids.tolist())) for ids in pieces))
    assert found[0] > 50
    assert found[1] < 0.1 * found[0], "all but those that a row ends inside of"


CONFIG = ModelConfig(
    vocab_size=len(toy_dataset.VOCABULARY),
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=40,
)


@pytest.fixture(scope="module")
def params() -> dict:
    return random_weights.draw(CONFIG, 0)


@pytest.fixture(scope="module")
def toy(params: dict, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of another vocabulary, and a model of random weights for it."""
    directory = tmp_path_factory.mktemp("toy")
    data = toy_dataset.write(directory / "data")
    (directory / "model").mkdir()
    huggingface.write_directory(directory / "model", CONFIG, params, data)
    return data, directory / "model"


def some_windows(lengths: list[int], entries: int) -> Windows:
    random, count = np.random.default_rng(0), len(lengths)
    return Windows(
        random.integers(5, entries, sum(lengths)),
        np.append(0, np.cumsum(lengths)),
        np.array([max(1, length // 2) for length in lengths]),
        counter_rng.fold(np.arange(count)),
        np.arange(count),
        np.zeros(count, np.int64),
        np.arange(count) % 2 == 0,
        np.zeros(count, bool),
        np.ones(count, np.int64),
    )


def test_losses_do_not_depend_on_the_batch_and_are_continued(params: dict, tmp_path: Path) -> None:
    """A window alone has the loss that it has among others, in a model whose longest row is no power of two too."""
    tokens = toy_dataset.VOCABULARY
    scorer = losses.Scorer(loading.Loaded(CONFIG, params, tmp_path, (), None), tokens)
    policy = masking.policy(list(tokens), 5)
    windows = some_windows([8, 13, 36, 20, 36, 9], len(tokens))
    (tmp_path / "parts").mkdir()
    together = scorer.of_windows(windows, policy, 3, 0, tmp_path / "parts", "model")
    rows = scorer._masked(windows, np.arange(6), policy, counter_rng.fold(0, windows.key_W, 0))
    whole = scorer.losses(rows)
    for number in range(6):
        alone = losses.Rows(*(array[number : number + 1] for array in rows))
        np.testing.assert_allclose(scorer.losses(alone), whole[number : number + 1], atol=1e-4)
    maskings = [
        scorer._masked(windows, np.arange(6), policy, counter_rng.fold(0, windows.key_W, number)) for number in range(3)
    ]
    sums_W, counts_W = (
        np.sum([one.sum(1) for one in of], axis=0)
        for of in ([scorer.losses(rows) for rows in maskings], [rows.weights_NxP > 0 for rows in maskings])
    )
    np.testing.assert_allclose(together, sums_W / counts_W, atol=1e-4)
    stored = next((tmp_path / "parts").iterdir())
    np.savez(stored, mean=np.arange(6.0))
    again = scorer.of_windows(windows, policy, 3, 0, tmp_path / "parts", "model")
    assert sorted(again.tolist()) == [0, 1, 2, 3, 4, 5], "what is done is not done again"
    assert np.ptp(together) > 0
    damaged = jax.tree.map(lambda leaf: leaf * np.nan, params)
    broken = losses.Scorer(loading.Loaded(CONFIG, damaged, tmp_path, (), None), tokens)
    with pytest.raises(UserError, match="expected finite losses"):
        broken.losses(rows)
    with pytest.raises(UserError, match="expected a model with an MLM head"):
        losses.Scorer(loading.Loaded(CONFIG, params, tmp_path, ("mlm_head",), None), tokens)


def test_padding_changes_no_loss(params: dict, tmp_path: Path) -> None:
    """Against the model on a row without padding; weights are large, so that every token has a say in every other's."""
    large = jax.tree.map(lambda leaf: 5 * leaf, params)
    scorer = losses.Scorer(loading.Loaded(CONFIG, large, tmp_path, (), None), toy_dataset.VOCABULARY)
    windows = some_windows([20], len(toy_dataset.VOCABULARY))
    rows = scorer._masked(windows, np.arange(1), masking.policy(toy_dataset.VOCABULARY, 5), windows.key_W)
    assert rows.segment_ids_NxL.tolist() == [[0] * 12 + [1] * 11], "[CLS], ten tokens, [SEP], ten tokens, [SEP]"
    ones_1xL, first_1x1 = np.ones_like(rows.input_ids_NxL), np.zeros((1, 1), np.int32)
    outputs = jax.jit(functools.partial(bert.apply, CONFIG))(
        large, rows.input_ids_NxL, rows.segment_ids_NxL, ones_1xL, rows.positions_NxP, first_1x1
    )
    expected_1xP = token_cross_entropy(outputs.mlm_logits_BxPxV, rows.targets_NxP)[0] * (rows.weights_NxP > 0)
    np.testing.assert_allclose(scorer.losses(rows), expected_1xP, rtol=1e-4)


def test_an_estimate_is_of_the_very_batches_that_are_computed(params: dict, tmp_path: Path) -> None:
    tokens = toy_dataset.VOCABULARY
    scorer = losses.Scorer(loading.Loaded(CONFIG, params, tmp_path, (), None), tokens)
    policy, program, computed = masking.policy(tokens, 5), scorer._program, Counter()

    def counted(params: dict, ids_BxL: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
        computed[ids_BxL.shape[1], arrays[-1].shape[1]] += 1
        assert len(ids_BxL) == xla.rows_at_once("cpu", ids_BxL.shape[1])
        return program(params, ids_BxL, *arrays)

    scorer._program = counted
    windows = some_windows([8, 13, 14, 36, 20, 36, 9, 30] * 40, len(tokens))  # in five parts, one of several lengths
    scorer.of_windows(windows, policy, 3, 0, tmp_path, "model")
    assert scorer.batches_of_windows(windows, 3, 5) == computed
    assert set(computed) == {(16, 5), (32, 5), (40, 5)}
    computed.clear()
    sentences = [Sentence(list(range(5, 5 + length)), 1, length) for length in (8, 20, 38)] * 70
    count = losses.SentenceCount(scorer)
    assert not count.of_sentences(sentences, "counting").any()
    scorer.of_sentences(sentences, "scoring")
    assert count.batches == computed
    computed.clear()
    seconds = scorer.seconds(count.batches)
    assert all(computed[shape] >= 2 for shape in count.batches), "each shape is compiled and measured"
    assert seconds > 0


def test_losses_do_not_depend_on_the_order_of_windows(params: dict, tmp_path: Path) -> None:
    """Else members, who come first, would have the same masks at every split, and their mean would be off by those."""
    tokens = toy_dataset.VOCABULARY
    scorer, policy = (
        losses.Scorer(loading.Loaded(CONFIG, params, tmp_path, (), None), tokens),
        masking.policy(tokens, 5),
    )
    windows = some_windows([8, 13, 36, 20, 36, 9], len(tokens))
    order = np.array([3, 5, 1, 0, 4, 2])
    pieces = np.split(windows.ids_T, windows.offset_W[1:-1])
    reordered = dataclasses.replace(
        windows,
        ids_T=np.concatenate([pieces[number] for number in order]),
        offset_W=np.append(0, np.cumsum(windows.length_W[order])),
        first_W=windows.first_W[order],
        key_W=windows.key_W[order],
    )
    found = []
    for number, one in enumerate((windows, reordered)):
        (tmp_path / str(number)).mkdir()
        found.append(scorer.of_windows(one, policy, 2, 0, tmp_path / str(number), "model"))
    np.testing.assert_allclose(found[1], found[0][order], atol=1e-4)


def test_a_patient_has_the_same_windows_and_keys_on_either_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = memorised.prepared(tmp_path, "notes")
    found = []
    for sides in (("train", "test"), ("test", "train")):
        monkeypatch.setattr(texts, "MEMBERS", sides[0])
        monkeypatch.setattr(texts, "OTHERS", sides[1])
        windows = read(data, most=2)
        pieces = np.split(windows.ids_T, windows.offset_W[1:-1])
        found.append(
            {
                key: (ids.tobytes(), group)
                for key, ids, group in zip(windows.key_W.tolist(), pieces, windows.patient_W.tolist(), strict=True)
            }
        )
        assert len(found[-1]) == len(windows.key_W) > 2 * memorised.NUM_PATIENTS - 20, "each key is of one window"
    assert found[0] == found[1]


def test_sentences_have_the_probabilities_of_inference(toy: tuple[Path, Path]) -> None:
    data, model = toy
    tokenizer = tokenizer_of(data)
    ids = [tokenizer.id_of[f"word{number}"] for number in (3, 4, 5, 6)]
    scorer = losses.Scorer(loading.load(loading.find(model)), tokenizer.vocabulary)
    found = scorer.of_sentences([Sentence(ids, 1, 3), Sentence(ids, 0, 1)], "scoring")
    inference = Inference.load(model)
    expected = [
        sum(
            np.log(inference.fill_mask([text], candidates=[word])[0][0][0].probability)
            for text, word in (("word3 [MASK] word5 word6", "word4"), ("word3 word4 [MASK] word6", "word5"))
        ),
        np.log(inference.fill_mask(["[MASK] word4 word5 word6"], candidates=["word3"])[0][0][0].probability),
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


class Pretended:
    """A model that knows some sentences, and gives the others random scores."""

    def __init__(self, known: list[list[int]]) -> None:
        self._known, self._random = {tuple(ids) for ids in known}, np.random.default_rng(0)

    def of_sentences(self, sentences: list[Sentence], doing: str) -> np.ndarray:
        return np.array([self._random.normal() + 50 * (tuple(one.ids) in self._known) for one in sentences])


def test_exposures_and_bound_of_a_model_that_knows_all_and_of_one_that_knows_nothing(toy: tuple[Path, Path]) -> None:
    tokenizer = Tokenizer(letters())
    candidates = [dataclasses.replace(one, num_places=one.repeats) for one in secrets.draw(400, secrets.NUMBER, 5)]
    candidates[0] = dataclasses.replace(candidates[0], num_places=0)
    content = Content(secrets.NUMBER, "", "0" * 64, tuple(candidates))
    known = [list(people.sentence(one.parts, tokenizer).ids) for one in candidates if one.is_planted]
    found = planted.findings(content, tokenizer, Pretended(known))
    nothing = planted.findings(content, tokenizer, Pretended([]))
    assert (found["audited"], found["not_audited"]) == (399, 1)
    for row in found["by_repeats"]:
        assert row["planted"]["median"] == found["ceiling_bits"] == 10
        assert row["left_out"]["median"] < 3
    assert found["epsilon"]["right"] == found["epsilon"]["guesses"]
    assert found["epsilon"]["epsilon"] > 1
    assert found["epsilon"]["canaries"] == sum(one.repeats == one.num_places == 1 for one in candidates)
    assert nothing["epsilon"]["epsilon"] < 0.5
    assert abs(nothing["by_repeats"][0]["planted"]["mean"] - 1.44) < 0.5


def test_the_report_is_of_the_stronger_attack() -> None:
    """A reference that is easier where members are hides what the model kept, and must not be what is reported."""
    windows = some_windows([20] * 200, 100)
    loss = np.random.default_rng(0).normal(3, 1, 200) - 3 * windows.is_member_W
    hidden = findings.membership_findings(windows, loss, loss + np.random.default_rng(1).normal(0, 1, 200), ())
    helped = findings.membership_findings(windows, loss * 5, loss * 5 + 3 * windows.is_member_W, ())
    assert hidden["strongest"] == "loss"
    assert helped["strongest"] == "ratio"
    assert hidden["attacks"]["loss"]["patient"]["all_text"]["auc"]["value"] > 0.95
    assert hidden["attacks"]["ratio"]["patient"]["all_text"]["auc"]["low"] < 0.5


def test_findings_are_those_of_a_loop_over_patients() -> None:
    """Of patients with windows of several lengths: the mean over tokens, all text and own text, and who is exposed."""
    random, count = np.random.default_rng(0), 400
    windows = dataclasses.replace(
        some_windows(random.integers(8, 60, count).tolist(), 100),
        patient_W=np.arange(count) // 4,
        is_member_W=np.arange(count) // 4 % 2 == 0,
        is_shared_W=random.random(count) < 0.3,
        category_W=np.where(np.arange(count) < 100, 1, 0),  # of category 1 there are 13 and 12 patients
    )
    loss_W = random.normal(3, 1, count) - windows.is_member_W * (0.3 + windows.is_shared_W)
    found = findings.membership_findings(windows, loss_W, None, ("many", "few"))
    for name, chosen_W in (("all_text", np.ones(count, bool)), ("own_text", ~windows.is_shared_W)):
        sides: dict[bool, list[float]] = {True: [], False: []}
        for patient in np.unique(windows.patient_W):
            of = chosen_W & (windows.patient_W == patient)
            if of.any():
                mean = np.average(-loss_W[of], weights=windows.length_W[of])
                sides[bool(windows.is_member_W[of][0])].append(float(mean))
        pairs = [member > other for member in sides[True] for other in sides[False]]
        auc = found["attacks"]["loss"]["patient"][name]["auc"]["value"]
        assert auc == pytest.approx(np.mean(pairs))
        if name == "all_text":
            exposed = [np.mean([other >= score for other in sides[False]]) for score in sorted(sides[True])[::-1]]
            assert found["most_exposed"] == pytest.approx(exposed[:10])
    assert set(found["by_category"]) == {"many"}, "too few patients for the other"


def letters() -> Settings:
    characters = "abcdefghijklmnopqrstuvwxyz0123456789."
    return Settings((*SPECIAL_TOKENS, *characters, *(f"##{one}" for one in characters)), True)


def test_a_name_that_gives_its_person_away_is_found() -> None:
    tokenizer = Tokenizer(letters())
    listed = [(f"name{number}", secrets.CONDITIONS[number % 4]) for number in range(60)]
    known = [list(people.sentence((f"{n} has a history of", c, "."), tokenizer).ids) for n, c in listed]
    found, nothing = (people.findings(listed, tokenizer, Pretended(one)) for one in (known, []))
    assert found is not None
    assert nothing is not None
    assert found["own_above_others"]["value"] == 1
    assert nothing["own_above_others"]["low"] < 0.5 < nothing["own_above_others"]["high"]
    assert people.findings(listed[:20], tokenizer, Pretended([])) is None


class Frequent:
    """A model that knows how frequent each condition is, and of each name how it raises conditions: `raised_NxK`."""

    def __init__(self, listed: list[tuple[str, str]], raised_NxK: np.ndarray) -> None:
        conditions = sorted({condition for _, condition in listed})
        count_K = np.array([[of for _, of in listed].count(condition) for condition in conditions])
        self.scores_NxK = 50.0 * count_K + raised_NxK

    def of_sentences(self, sentences: list[Sentence], doing: str) -> np.ndarray:
        return self.scores_NxK.ravel()


def test_that_a_condition_is_frequent_gives_nobody_away() -> None:
    """Most people have the most probable condition, whatever their name: the baseline takes that off."""
    random, tokenizer = np.random.default_rng(0), Tokenizer(letters())
    numbers = np.repeat([0, 1, 2, 3], [120, 40, 30, 10])
    listed = [(f"name{number}", sorted(secrets.CONDITIONS)[of]) for number, of in enumerate(numbers.tolist())]
    noise_NxK = random.normal(0, 1, (200, 4))
    for raise_own in (0.0, 1.0):
        model = Frequent(listed, noise_NxK + raise_own * np.eye(4)[numbers])
        found = people.findings(listed, tokenizer, model)
        assert found is not None
        # Each name's own condition against each other one, as a loop over people.
        above = []
        for number, own in enumerate(numbers.tolist()):
            raised_K = model.scores_NxK[number] - np.delete(model.scores_NxK, number, 0).mean(0)
            above.append(np.mean([raised_K[own] > raised_K[other] for other in range(4) if other != own]))
        estimate = found["own_above_others"]
        assert estimate["value"] == pytest.approx(np.mean(above))
        assert (estimate["low"] < 0.5 < estimate["high"]) == (raise_own == 0)
        own_N = model.scores_NxK[np.arange(200), numbers]
        assert (model.scores_NxK <= own_N[:, None]).mean() > 0.7, "without the baseline all would seem given away"


def test_a_dataset_that_does_not_record_its_passes_is_refused(toy: tuple[Path, Path]) -> None:
    data, _ = toy
    with pytest.raises(UserError, match="prepare the data again, with the same options and salt"):
        read(data)
    assert provenance.AUDIT_FILE == command.JSON_FILE
