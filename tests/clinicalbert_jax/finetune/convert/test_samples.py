"""Sentence pairs, questions and DDI in their exact layouts, invented: nothing lost, offsets exact, others refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.convert import command, settle, tasks
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.corpora import ddi, sentence_pairs
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.policies import Policies
from clinicalbert_jax.finetune.convert.sources import SAMPLES, SOURCES
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.questions.task import QuestionsConfig
from clinicalbert_jax.finetune.similarity.task import SimilarityConfig
from tests.clinicalbert_jax.finetune.convert import invented

pytestmark = pytest.mark.fast

SENTENCES = st.lists(st.sampled_from([*invented.WORDS, "secret"]), min_size=1, max_size=6).map(" ".join)


def members(**files: str) -> list[Member]:
    return [Member(name.replace("__", "/"), name, content.encode()) for name, content in files.items()]


def json_lines(records: list[dict[str, object]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(corpus: str, files: list[Member], policy: str = "stop") -> tuple[list[dict[str, object]], Ledger]:
    ledger = Ledger(Reading(policy))
    found = [sample.record for sample in SAMPLES[corpus](files, ledger)]
    ledger.check()
    return found, ledger


def refused(corpus: str, files: list[Member]) -> str:
    with pytest.raises(UserError) as caught:
        read(corpus, files)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    return str(caught.value)


MEDNLI = {"pairID": "p1", "sentence1": "secret pain", "sentence2": "no pain", "gold_label": "contradiction"}
NAMES = dict.fromkeys(sentence_pairs.MEDNLI, "")


@given(texts=st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=4))
def test_mednli_pairs_come_whole_and_in_their_splits(texts: list[tuple[str, str]]) -> None:
    records = [
        MEDNLI | {"pairID": f"p{number}", "sentence1": one, "sentence2": other, "sentence1_parse": "(ROOT secret)"}
        for number, (one, other) in enumerate(texts)
    ]
    undecided = MEDNLI | {"pairID": "u", "gold_label": "-"}
    files = members(**NAMES | {"mli_dev_v1.jsonl": json_lines([*records, undecided])})
    ledger = Ledger()
    found = list(sentence_pairs.read_mednli(files, ledger))
    ledger.check()
    assert [(one.record["text"], one.record["text_b"], one.split) for one in found] == [
        (*pair, "validation") for pair in texts
    ]
    assert ledger["pairs of sentences"].reasons == {"without a label that the annotators agreed on": 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gold_label": "secret"}, "line 2: expected entailment, contradiction or neutral"),
        ({"sentence1": ""}, "line 2: expected a text"),
        ({"sentence1": None}, "line 2: expected a text"),
        ({"pairID": "a\tsecret"}, "line 2: expected a name"),
    ],
)
def test_a_damaged_pair_of_mednli_is_named(change: dict[str, object], words: str) -> None:
    files = members(**{"mli_train_v1.jsonl": json_lines([MEDNLI, MEDNLI | change])})
    assert words in refused("mednli", files)
    found, ledger = read("mednli", files, "skip")
    assert len(found) == ledger["pairs of sentences"].number_as_is == 1
    assert ledger["files"].notes == {"not there: mli_dev_v1.jsonl": 1, "not there: mli_test_v1.jsonl": 1}


def test_similarity_takes_its_scores_from_the_line_or_the_file_beside() -> None:
    files = members(
        **{
            "clinicalSTS2019.train.txt": "a  secret\tb\t3.5\r\nc\td\t0\r\n",
            "clinicalSTS2019.test.txt": "e\tf\n",
            "clinicalSTS2019.test.gs.sim.txt": "4.5\n",
        }
    )
    found, _ = read("clinical_sts", files)
    assert [(one["sentence1"], one["sentence2"], one["score"]) for one in found] == [
        ("a  secret", "b", 3.5),
        ("c", "d", 0),
        ("e", "f", 4.5),
    ]
    assert "found 0 such files" in refused("clinical_sts", files[:2])
    assert "expected 1 scores" in refused("clinical_sts", [*files[:2], Member("gs.txt", "gs.txt", b"1\n2\n")])
    for line, words in (
        ("a\tb\t6", "a score from 0 to 5"),
        ("a\tb\tx", "a number"),
        ("a\t\t1", "a text"),
        ("a", "1 fie"),
    ):
        wrong = members(**{"train.txt": f"secret\tb\t1\n{line}\n"})
        assert f"train.txt, line 2: expected {words}" in refused("clinical_sts", wrong).replace(
            "sentence, sentence and score between tabs, found ", ""
        )


# --- emrQA


def emrqa(title: str, context: list[str], answers: list[dict[str, object]], note: str = "220-01") -> str:
    qas = [{"id": [["secret", "x"], "y"], "question": ["Secret one?", "Another one?"], "answers": answers}]
    paragraphs = [{"note_id": note, "context": context, "qas": qas}]
    return json.dumps({"data": [{"title": title, "paragraphs": paragraphs}]})


@given(
    lines=st.lists(SENTENCES, min_size=1, max_size=8),
    spaces=st.sampled_from(["", " ", "  \t"]),
    part=st.sampled_from(["medication", "relations", "risk-dataset"]),
    data=st.data(),
)
def test_an_answer_of_emrqa_is_the_line_that_it_names(
    lines: list[str], spaces: str, part: str, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(lines) - 1))
    context = [spaces + line + ("" if part == "risk-dataset" else "\n") for line in lines]
    evidence = context[number]
    if part == "risk-dataset":
        place: dict[str, object] = {"answer_start": [sum(len(line) + 1 for line in context[:number]), 3]}
    elif data.draw(st.booleans()):
        place = {"answer_start": [number + 1, 0]}
    else:
        place = {"answer_start": "", "evidence_start": data.draw(st.sampled_from([number + 1, [number + 1] * 2]))}
    (record,), ledger = read(
        "emrqa", members(**{"data.json": emrqa(part, context, [place | {"text": "t", "evidence": evidence}])})
    )
    (answer,) = record["answers"]  # type: ignore[misc]
    start = answer["answer_start"]
    assert record["context"][start : start + len(answer["text"])] == answer["text"] == lines[number]  # type: ignore[index]
    assert record["context"] == ("\n" if part == "risk-dataset" else "").join(context)
    before = record["context"][:start].count("\n")  # type: ignore[index]
    assert before == number
    assert record["question"] in ("Secret one?", "Another one?")
    assert ledger["questions"].notes == {"paraphrases left out": 1}
    assert (ledger["answers"].number_found, ledger["answers"].number_as_is) == (1, 1)
    assert record["patient"] == ("risk 220" if part == "risk-dataset" else f"{part} 220-01")


def test_emrqa_answers_that_are_elsewhere_or_nowhere_are_repaired_or_refused() -> None:
    context = ["first secret line\n", "second  line\n", "third line\n", "4\n", "5\n", "6\n", "7\n"]
    answers = [
        {"answer_start": [2, 0], "text": "x", "evidence": "second line"},  # other white space
        {"answer_start": [1, 0], "text": "x", "evidence": "third line"},  # two lines further
        {"answer_start": [3, 0], "text": "x", "evidence": "third line"},  # the same line again
        {"answer_start": [1, 0], "text": "x", "evidence": "7"},  # too far away
    ]
    (record,), ledger = read("emrqa", members(**{"d.json": emrqa("relations", context, answers)}))
    assert [answer["text"] for answer in record["answers"]] == ["second  line", "third line"]  # type: ignore[attr-defined]
    entry = ledger["answers"]
    assert (entry.number_as_is, entry.number_repaired, entry.number_refused) == (0, 2, 2)
    outside = emrqa("relations", context, [{"answer_start": [9, 0], "text": "x", "evidence": "7"}])
    assert "expected lines of the note" in refused("emrqa", members(**{"d.json": outside}))
    (found, ledger) = read("emrqa", members(**{"d.json": emrqa("smoking", context, [{"text": "current"}])}))
    assert found == []
    assert ledger["questions"].reasons == {"its answer is a class, no line of the note": 1}


# --- RadQA


def radqa(context: str, *qas: dict[str, object]) -> str:
    return json.dumps({"data": [{"title": "r", "paragraphs": [{"context": context, "qas": list(qas)}]}]})


CONTEXT = "no secret\r\nfracture"
ANSWERED = {
    "id": "1",
    "question": "What?",
    "is_impossible": False,
    "answers": [{"text": "fracture", "answer_start": 11}],
}
IMPOSSIBLE = {"id": "2", "question": "Why?", "is_impossible": True, "answers": []}


def test_radqa_questions_without_an_answer_are_kept() -> None:
    found, ledger = read("radqa", members(**{"train.json": radqa(CONTEXT, ANSWERED, IMPOSSIBLE)}))
    assert [one["is_impossible"] for one in found] == [False, True]
    assert ledger["questions"].number_as_is == 2
    assert ledger["files"].notes == {"not there: dev.json": 1, "not there: test.json": 1}
    for change, words in (
        ({"answers": [{"text": "fracture", "answer_start": 10}]}, "expected each answer at its characters"),
        ({"answers": []}, "expected an answer, or is_impossible"),
        ({"is_impossible": None}, "true or false in 'is_impossible'"),
        ({"question": ""}, "expected a text"),
    ):
        files = members(**{"train.json": radqa(CONTEXT, IMPOSSIBLE, ANSWERED | change)})
        assert words in refused("radqa", files)
        assert len(read("radqa", files, "skip")[0]) == 1


# --- DDI


def ddi_file(sentence: str, entities: list[tuple[str, str]], truth: str = 'ddi="true" type="effect"') -> str:
    escaped = sentence.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    lines = [
        f'<entity id="d.s0.e{n}" charOffset="{offsets}" type="drug" text="{text}"/>'
        for n, (offsets, text) in enumerate(entities)
    ]
    pairs = f'<pair id="d.s0.p0" e1="d.s0.e0" e2="d.s0.e1" {truth}/>' if len(entities) > 1 else ""
    body = "\n".join(lines)
    return f'<document id="d">\n<sentence id="d.s0" text="{escaped}">\n{body}\n{pairs}</sentence>\n</document>'


def ddi_documents(files: list[Member], policy: str = "stop"):  # type: ignore[no-untyped-def]
    ledger = Ledger(Reading(policy))
    documents = settle.settle(ddi.read(files, ledger), ledger, Policies())
    found = tasks.records({"train": documents}, Policies(pairs="document"), "document", False, ledger)
    ledger.check()
    return documents, found, ledger


def test_ddi_offsets_are_inclusive_and_may_have_parts() -> None:
    text = "Beta & alpha <blockers> raise X"
    files = members(**{"Train__MedLine__a.xml": ddi_file(text, [("30-30", "X"), ("7-11;14-21", "alpha blockers")])})
    documents, found, ledger = ddi_documents(files)
    (document,) = documents
    assert (document.id, document.patient, document.split, document.text) == ("d.s0", "d", "train", text)
    assert [entity.text_in(text) for entity in document.entities] == ["X", "alpha blockers"]
    assert [record["label"] for record in found["relations"]["train"]] == [
        "effect",
        "none",
    ]  # the later one first: so both ways
    assert ledger["pairs"].number_as_is == ledger["relations"].number_as_is == 1
    written = ddi.write(documents)
    assert written[".ner.txt"] == "d.s0|30-30|X|drug\nd.s0|7-11;14-21|alpha blockers|drug\n"
    assert written[".ddi.txt"] == "d.s0|d.s0.e0|d.s0.e1|1|effect\n"


def test_ddi_sentences_in_two_folders_are_read_once_and_damage_is_named() -> None:
    one = ddi_file("aspirin with secret", [("0-6", "aspirin"), ("13-18", "secret")], 'ddi="false"')
    twice = members(**{"Test__NER__a.xml": one, "Test__DDI__a.xml": one})
    documents, _, ledger = ddi_documents(twice)
    assert len(documents) == 1
    assert ledger["documents"].reasons == {"a sentence that another file has too": 1}
    assert ledger["pairs"].number_as_is == 1
    without = one.replace('<pair id="d.s0.p0" e1="d.s0.e0" e2="d.s0.e1" ddi="false"/>', "")
    assert ddi_documents(members(**{"Test__A__a.xml": without, "Test__DDI__a.xml": one}))[2]["pairs"].number_as_is == 1
    for broken, where in (
        (one.replace("0-6", "0"), "line 3: expected an id, a type and charOffset"),
        (one.replace('ddi="false"', 'ddi="true"'), "line 5: expected e1, e2"),
        (one.replace("0-6", "0-60"), "line 3: expected offsets inside the text of 19 characters"),
        (one[:-12], "expected well-formed XML"),
        ("<collection/>", "line 1: expected a <document> of sentences"),
    ):
        with pytest.raises(UserError, match="expected") as caught:
            ddi_documents(members(**{"a.xml": broken}))
        assert where in str(caught.value)
        assert "secret" not in str(caught.value)


# --- all of them

FILES = {
    "mednli": {"mli_train_v1.jsonl": json_lines([MEDNLI])},
    "clinical_sts": {"train.txt": "a\tb\t1\n"},
    "emrqa": {"data.json": emrqa("risk", ["a b"], [{"answer_start": [0, 1], "text": "a", "evidence": "a b"}])},
    "radqa": {"train.json": radqa(CONTEXT, ANSWERED)},
    "gad": {"train.tsv": "a @GENE$ and a @DISEASE$\t1\n"},
    "blue": {"train.tsv": "index\tsentence\tlabel\n1\t@DRUG$ and @DRUG$\teffect\n"},
    "hallmarks": {"a.jsonl": json_lines([{"pmid": "1", "sentences": ["a"], "sentence_labels": ["A--"]}])},
    "ddi": {"a.xml": ddi_file("x y", [("0-0", "x"), ("2-2", "y")])},
    "ade": {"DRUG-AE.rel": "1|x hurts|hurts|2|7|x|0|1\n", "ADE-NEG.txt": "2 NEG y\n"},
    "chemprot": {
        "chemprot_training_abstracts.tsv": "1\tA\tB C\n",
        "chemprot_training_entities.tsv": "1\tT1\tCHEMICAL\t2\t3\tB\n1\tT2\tGENE-Y\t4\t5\tC\n",
        "chemprot_training_gold_standard.tsv": "1\tCPR:3\tArg1:T1\tArg2:T2\n",
    },
}


@pytest.mark.parametrize("corpus", FILES)
@pytest.mark.parametrize("other", [*FILES, "brat"])
def test_a_reader_refuses_the_files_of_another(corpus: str, other: str) -> None:
    files = members(**FILES.get(other, {"a.txt": "no pain", "a.ann": "T1\tproblem 3 7\tpain\n"}))
    if corpus == other:
        found = SAMPLES[corpus](files, Ledger()) if corpus in SAMPLES else SOURCES[corpus].read(files, Ledger())
        assert list(found)
        return
    with pytest.raises(UserError) as caught:
        ledger = Ledger()
        found = SAMPLES[corpus](files, ledger) if corpus in SAMPLES else SOURCES[corpus].read(files, ledger)
        settle.settle(found, ledger, Policies()) if corpus in SOURCES else list(found)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("corpus", "task", "config"),
    [
        ("mednli", "pairs/train.jsonl", ClassificationConfig(text_b_column="text_b")),
        ("clinical_sts", "similarity/train.jsonl", SimilarityConfig()),
        ("radqa", "questions/train.json", QuestionsConfig(unanswerable=True)),
        ("emrqa", "questions-risk/train.json", QuestionsConfig(patient_field="patient")),
    ],
)
def test_what_the_command_writes_its_task_reads(tmp_path: Path, corpus: str, task: str, config) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "in").mkdir()
    for name, content in FILES[corpus].items():
        (tmp_path / "in" / name).write_text(content)
    percent = ("100", "0", "0") if corpus == "emrqa" else ()
    options = command.Options(
        corpus=corpus,
        input=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        split_percent=percent,
        validation_percent=0,
        reading=Reading(),
    )
    command.run(options)
    assert len(config.read(tmp_path / "out" / task, Reading())) == 1
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["corpus"] == corpus


@pytest.mark.parametrize("corpus", [name for name in FILES if name in SAMPLES])
@given(data=st.data())
@settings(max_examples=25)
def test_a_damaged_file_is_said_and_never_guessed(corpus: str, data: st.DataObject) -> None:
    (name, content), *_ = FILES[corpus].items()
    content = content.replace("\tb\t", "\tsecret\t")
    cut = data.draw(st.integers(0, len(content)))
    rest = data.draw(st.sampled_from(["", "\n", "\x00", content, "}", "\t"]))
    reading = data.draw(st.sampled_from(["stop", "skip"]))
    ledger = Ledger(Reading(reading))
    try:
        for sample in SAMPLES[corpus](members(**{name: content[:cut] + rest + content[cut:]}), ledger):
            for answer in sample.record.get("answers", []):
                start = answer["answer_start"]
                assert sample.record["context"][start : start + len(answer["text"])] == answer["text"]
        ledger.check()
    except UserError as error:
        assert "\n" not in str(error)
        assert "secret" not in str(error)


def test_two_drugs_that_interact_are_one_pair_where_the_earlier_is_always_first() -> None:
    text = "aspirin with zinc or iron"
    one = ddi_file(text, [("0-6", "aspirin"), ("13-16", "zinc"), ("21-24", "iron")]).replace(
        'charOffset="13-16" type="drug"', 'charOffset="13-16" type="brand"'
    )
    other = one.replace('"d.', '"e.').replace('e2="e.s0.e1"', 'e2="e.s0.e2"')
    third = one.replace('"d.', '"f.').replace('e1="f.s0.e0" e2="f.s0.e1"', 'e1="f.s0.e1" e2="f.s0.e2"')
    _, found, _ = ddi_documents(members(**{"a.xml": one, "b.xml": other, "c.xml": third}))
    pairs = [(r["head"]["start"], r["tail"]["start"], r["label"]) for r in found["relations"]["train"]]
    assert sorted(pairs) == sorted(
        (head, tail, "effect" if (head, tail) == related else "none")
        for related in ((0, 13), (0, 21), (13, 21))
        for head, tail in ((0, 13), (0, 21), (13, 21))
    )
