"""What is particular to a corpus: tokens of i2b2 2010, criteria of n2c2 2018, composites and offsets of BC5CDR, ..."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.classification.task import ClassificationConfig
from clinicalbert_jax.finetune.convert import archives, command, settle, standoff, tasks, way_back
from clinicalbert_jax.finetune.convert.corpora import i2b2_2010
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.policies import Policies
from clinicalbert_jax.finetune.convert.sources import SOURCES
from clinicalbert_jax.finetune.convert.standoff import Argument, Attribute, Document, Entity, Relation
from clinicalbert_jax.finetune.entities.task import EntitiesConfig
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.relations.task import RelationsConfig
from tests.clinicalbert_jax.finetune.convert import invented
from tests.clinicalbert_jax.finetune.convert.invented import Kind, canonical, members
from tests.clinicalbert_jax.finetune.convert.test_archives import tarred
from tests.clinicalbert_jax.finetune.convert.test_formats import read, written

pytestmark = pytest.mark.fast

_TOKENS = Kind(
    spaces=(" ", "  ", "   ", "\n"), discontinuous=False, overlapping=False, relations=False, attributes=False
)


@given(document=invented.document(_TOKENS, "doc"))
@settings(max_examples=30)
def test_tokens_counted_with_empty_ones_are_read_by_a_named_rule(document: Document) -> None:
    # As some tool must have counted: every single space parts two tokens.
    lines = []
    for entity in document.entities:
        places = []
        for offset in (entity.start, entity.end - 1):
            line_start = document.text.rfind("\n", 0, offset) + 1
            places.append(
                f"{document.text.count(chr(10), 0, offset) + 1}:{document.text.count(' ', line_start, offset)}"
            )
        quote = re.sub(r"\s", " ", document.text[entity.start : entity.end]).lower()
        lines.append(f'c="{quote}" {places[0]} {places[1]}||t="{entity.label}"\n')
    files = {"doc.txt": document.text, "doc.con": "".join(lines)}
    found, ledger = read("i2b2_2010", files)
    entry = ledger["entities"]
    assert entry.number_found == len(lines)
    assert set(entry.rules) <= {i2b2_2010.EMPTY_TOKENS}
    for entity in found[0].entities:
        # A word that stands there several times may have been found at its plain token.
        same = [one for one in document.entities if one.parts == entity.parts and one.label == entity.label]
        assert same or not entity.rules


def test_relations_of_i2b2_name_concepts_of_the_type_their_label_says() -> None:
    con = 'c="a b" 1:0 1:1||t="problem"\nc="a b" 1:0 1:1||t="treatment"\nc="c" 1:2 1:2||t="problem"\n'
    files = {"doc.txt": "A  b c\n", "doc.con": con, "doc.rel": 'c="a b" 1:0 1:1||r="TrAP"||c="c" 1:2 1:2\n'}
    (document,), _ = read("i2b2_2010", files)
    assert [document.by_id()[target].label for _, target in document.relations[0].arguments] == ["treatment", "problem"]
    files["doc.rel"] = 'c="x" 1:0 1:1||r="TrAP"||c="c" 1:2 1:2\nc="c" 1:2 1:2||r="PIP"||c="b" 1:1 1:1\n'
    with pytest.raises(UserError, match=r"doc\.rel, line 2: expected a relation of two concepts of the \.con"):
        read("i2b2_2010", files)


def test_texts_and_annotations_of_i2b2_2010_lie_apart_as_in_its_archives() -> None:
    con = 'c="a" 1:0 1:0||t="problem"\n'
    files = {
        "concept_assertion_relation_training_data/beth/txt/record-1.txt": "A b\n",
        "concept_assertion_relation_training_data/beth/concept/record-1.con": con,
        "concept_assertion_relation_training_data/partners/txt/record-1.txt": "A c\n",
        "concept_assertion_relation_training_data/partners/concept/record-1.con": con,
        "test_data/0001.txt": "A d\n",
        "reference_standard_for_test_data/concepts/0001.con": con,
    }
    found, ledger = read("i2b2_2010", files)
    assert [(one.text, one.split, len(one.entities)) for one in found] == [
        ("A b\n", "train", 1),
        ("A c\n", "train", 1),
        ("A d\n", "test", 1),
    ]
    assert ledger["documents"].notes == {"no .ast files there": 1, "no .rel files there": 1}
    del files["reference_standard_for_test_data/concepts/0001.con"]
    with pytest.raises(UserError, match=r"0001\.txt, line 1: expected a \.con of the same name, found none"):
        read("i2b2_2010", files)


def test_i2b2_2010_goes_from_its_archives_to_the_tasks_and_back(tmp_path: Path) -> None:
    documents = []
    for number in range(30):
        text = f"{'A ' * (number % 3)} chest  pain\nNo  fever , aspirin  {number}.\n"
        document = Document(f"{number:04}", text)
        for label, words in (("problem", "chest  pain"), ("problem", "fever"), ("treatment", "aspirin")):
            start = text.index(words)
            document.entities.append(Entity(f"T{start}", ((start, start + len(words)),), label))
        first, second, third = document.entities
        document.relations = [Relation("R1", "TrAP", (Argument("1", third.id), Argument("2", second.id)))]
        document.relations += [Relation("R2", "PIP", (Argument("1", first.id), Argument("2", second.id)))]
        document.attributes = [Attribute("A1", "assertion", first.id, "present")]
        document.attributes += [Attribute("A2", "assertion", second.id, "absent" if number % 2 else "possible")]
        documents.append(document)
    files = {name: text.encode() for name, text in written("i2b2_2010", documents).items()}
    source = tmp_path / "in"
    source.mkdir()
    folders = {".txt": "txt", ".con": "concept", ".ast": "ast", ".rel": "rel"}
    train = {f"training/beth/{folders[n[-4:]]}/{n}": data for n, data in files.items() if n < "0020"}
    test = {f"{folders[n[-4:]]}/{n}": data for n, data in files.items() if n >= "0020"}
    tarred(source / "concept_assertion_relation_training_data.tar.gz", train | {"training/beth/txt/._0001.txt": b"x"})
    tarred(source / "reference_standard_for_test_data.tar.gz", {n: d for n, d in test.items() if n[:3] != "txt"})
    tarred(source / "test_data.tar.gz", {n: d for n, d in test.items() if n[:3] == "txt"})
    out = tmp_path / "out"
    command.run(command.Options(corpus="i2b2_2010", input=str(source), output_dir=str(out), reading=Reading()))
    assert [
        len(standoff.read(out / "documents" / "test.jsonl")),
        (out / "documents" / "validation.jsonl").exists(),
    ] == [10, True]
    for task, suffix in (("entities", ".con"), ("attribute-assertion", ".ast"), ("relations", ".rel")):
        path = out / task / "test.jsonl"
        conversion = way_back.find(path)
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert conversion is not None
        (folder,) = conversion.write(tmp_path / f"predicted-{task}", path, records, False)
        for number in range(20, 30):
            lines = (folder / f"{number:04}{suffix}").read_text().splitlines()
            before = files[f"{number:04}{suffix}"].decode().splitlines()
            # The first relation is in one sentence, the second between two.
            expected = [line for line in before if "PIP" not in line]
            assert sorted(lines) == sorted(expected)
    assert json.loads((out / "ledger.json").read_text())["entries"]["in task relations"]["refused_by_reason"] == {
        "not in one sentence: --pairs says what is": 30
    }


@given(met=st.lists(st.booleans(), min_size=1, max_size=5))
@settings(max_examples=10)
def test_criteria_that_are_met_come_back(met: list[bool]) -> None:
    document = Document("100", "A note.\n", labels={f"CRITERION-{number}": one for number, one in enumerate(met)})
    (found,), ledger = read("n2c2_2018_track1", written("n2c2_2018_track1", [document]))
    assert (found.labels, found.text, found.patient) == (document.labels, document.text, "100")
    assert ledger["document labels"].number_as_is == len(met)
    records = tasks.records({"test": [found]}, Policies(), "", False, ledger)[tasks.LABELS]["test"]
    assert records[0]["labels"] == [name for name, one in document.labels.items() if one]
    conversion = way_back.Conversion("n2c2_2018_track1", tasks.LABELS, {}, False, Path())
    assert conversion.predicted([found], records, records)[0].labels == document.labels
    others = [one | {"labels": [name for name, holds in document.labels.items() if not holds]} for one in records]
    (back,) = conversion.predicted([found], records, others)
    (again,), _ = read("n2c2_2018_track1", written("n2c2_2018_track1", [back]))
    assert again.labels == {name: not holds for name, holds in document.labels.items()}


def test_records_of_2014_know_their_patient_and_risk_factors_are_labels() -> None:
    tags = '<DATE id="P0" start="0" end="4" text="2067" TYPE="DATE" comment="" />\n'
    tags += '<HYPERTENSION id="D1" time="before DCT" indicator="mention" comment="x" />\n' * 2
    text = f"<root><TEXT><![CDATA[2067 &amp; <b>]]></TEXT><TAGS>{tags}</TAGS></root>"
    (document,), ledger = read("i2b2_2014", {"training/220-01.xml": text})
    assert (document.patient, document.split, document.text) == ("220", "train", "2067 &amp; <b>")
    assert document.labels == {"HYPERTENSION: time=before DCT, indicator=mention": True}
    assert ledger["document tags"].number_refused == 1
    (again,), _ = read("i2b2_2014", written("i2b2_2014", [document]))
    assert (canonical(again), again.labels) == (canonical(document), document.labels)


def test_a_temporal_annotation_one_character_off_is_moved() -> None:
    tags = '<EVENT id="E0" start="3" end="7" text="pain" modality="FACTUAL" polarity="POS" type="PROBLEM" />'
    text = f"<ClinicalNarrativeTemporalAnnotation><TEXT><![CDATA[A pain]]></TEXT><TAGS>{tags}</TAGS>"
    (document,), ledger = read("i2b2_2012", {"1.xml": f"{text}</ClinicalNarrativeTemporalAnnotation>"})
    assert document.entities[0].parts == ((2, 6),)
    assert ledger["entities"].rules == {"offsets moved to the quoted text": 1}
    assert [(one.name, one.value) for one in document.attributes] == [("modality", "FACTUAL"), ("polarity", "POS")]


def test_bc5cdr_is_read_from_its_archive_without_what_taggers_found(tmp_path: Path) -> None:
    def abstract(id_: str, label: str = "Disease") -> str:
        return f"{id_}|t|A pain\n{id_}|a|was here.\n{id_}\t2\t6\tpain\t{label}\tD1\n\n"

    corpus = "CDR_Data/CDR.Corpus.v010516"
    files = {
        f"{corpus}/CDR_TrainingSet.PubTator.txt": abstract("1") + abstract("2"),
        f"{corpus}/CDR_DevelopmentSet.PubTator.txt": abstract("3"),
        f"{corpus}/CDR_TestSet.PubTator.txt": abstract("4"),
        f"{corpus}/CDR_TestSet.BioC.xml": "<collection/>",
        f"{corpus}/README.txt": "A corpus.",
        "CDR_Data/DNorm.TestSet/TestSet.DNorm.PubTator.txt": abstract("4"),
    }
    found, ledger = read("bc5cdr", files)
    assert {one.id: one.split for one in found} == {"1": "train", "2": "train", "3": "validation", "4": "test"}
    assert ledger["documents"].notes == {
        "files of what taggers found, passed over": 1,
        "files of the same in BioC, passed over": 1,
        "files that are not PubTator, passed over": 1,
    }
    with pytest.raises(UserError, match="expected the types of BC5CDR"):
        read("bc5cdr", {"CDR_TestSet.PubTator.txt": abstract("1", "Gene")})
    # The training set of NCBI holds one abstract twice.
    found, ledger = read("ncbi_disease", {"NCBItrainset_corpus.txt": "\n" + abstract("1", "Modifier") * 2})
    assert [one.split for one in found] == ["train"]
    assert ledger["documents"].reasons == {"the same document again": 1}


def test_a_composite_mention_does_not_decide_what_is_mentioned_alone() -> None:
    text = "1|t|Zinc gave renal and hepatic failure but no hepatic failure\n1|a|\n"
    mentions = "1\t0\t4\tZinc\tChemical\tC1\n1\t10\t35\trenal and hepatic failure\tDisease\tD1|D2\n"
    mentions += "1\t43\t58\thepatic failure\tDisease\tD2\n"
    found, ledger = read("pubtator", {"all.txt": f"{text}{mentions}1\tCID\tC1\tD1\n"})
    records = tasks.records({"train": found}, Policies(), "document", False, ledger)[tasks.RELATIONS]["train"]
    assert [one["label"] for one in records] == ["CID", "none"]
    (back,) = way_back.Conversion("pubtator", tasks.RELATIONS, {}, True, Path()).predicted(found, records, records)
    assert [[target for _, target in one.arguments] for one in back.relations] == [["C1", "D1"]]


def test_notes_of_made_have_their_text_beside_them() -> None:
    one = Document("1_7", "A pain was here.", entities=[Entity("1", ((2, 6),), "SSLIF")])
    files = {f"annotations/{name}": text.replace(one.text, "") for name, text in written("made", [one]).items()}
    (found,), _ = read("made", files | {"corpus/1_7": one.text})
    assert (found.patient, canonical(found)) == ("1", canonical(one))
    with pytest.raises(UserError, match="expected a file of its name ending in"):
        read("made", files | {"corpus/1_7": one.text, "corpus/2_1": "b"})


# What is wrong with the files of a collection, by what was done to them, and what is said of it.
BRAT = {"a.txt": "A pain was here.", "a.ann": "T1\tX 2 6\tpain\n", "b.txt": "B pain.", "b.ann": "T1\tX 2 6\tpain\n"}
SECRET = "SECRET"
BAD = [
    ({"c.ann": ""}, r"c\.ann, line 1: expected a \.txt of the same name"),
    ({"a.ann": "T1\tX 2 60\tpain\n"}, r"a\.ann, line 1: expected offsets inside the text of 16 characters"),
    ({"a.ann": "T1\tX 6 6\tpain\n"}, r"a\.ann, line 1: expected offsets inside the text"),
    ({"a.ann": f"T1\tX 2 6\tpain\n\n{SECRET}\n"}, r"a\.ann, line 3: expected an annotation such as"),
    ({"a.ann": f"T1 X 2 6 {SECRET}\n"}, r"a\.ann, line 1: expected an annotation such as"),
    ({"a.ann": "T1\tX 2 6\tpain\nT1\tX 0 1\tA\n"}, r"a\.ann, line 2: expected an id of its own"),
    ({"a.ann": "T1\tX 2 6\tpain\nR1\tY Arg1:T1 Arg2:T9\n"}, r"a\.ann, line 2: expected an id of its own and arguments"),
    ({"a.ann": f"T1\tX 2 6\tpain\nA1\t{SECRET} T9\n"}, r"a\.ann, line 2: expected an attribute of an annotation"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_records_are_said_with_file_and_line_or_counted(change: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read("brat", BRAT | change)
    assert SECRET not in str(caught.value)
    assert "found" in str(caught.value)
    reading = Reading("skip")
    found, ledger = read("brat", BRAT | change, reading)  # which also checks that it adds up
    assert [one.id for one in found] == ["a", "b"]
    refused = [refusal for entry in ledger.entries.values() for refusal in entry.refusals]
    assert [refusal["reason"] for refusal in refused] == ["bad record"]
    assert sum(reading.counts.values()) == 1


def test_texts_of_another_version_are_refused_and_one_wrong_offset_is_counted() -> None:
    lines = [f"T{number}\tX 2 6\tpain\n" if number else "T0\tX 9 15\tsecret\n" for number in range(2)]
    _, ledger = read("brat", BRAT | {"a.ann": "".join(lines)})
    assert ledger["entities"].reasons == {settle.DISAGREES: 1}
    assert ledger["entities"].refusals == [{"reason": settle.DISAGREES, "file": "a.ann", "line": 1}]
    with pytest.raises(UserError, match="2 of 2 entities are not at their offsets: probably texts of another version"):
        read("brat", BRAT | {"a.txt": "something else altogether", "b.txt": "and here as well"})


@given(
    document=invented.document(Kind(relations=False, attributes=False), "a"),
    mark=st.booleans(),
    line_ends=st.booleans(),
)
@settings(max_examples=40)
def test_texts_that_an_editor_changed_are_read_as_the_offsets_count(
    document: Document, mark: bool, line_ends: bool
) -> None:
    document.text = document.text.replace("\r\n", " \n")
    files = written("brat", [document])
    changed = document.text.replace("\n", "\r\n") if line_ends else document.text
    files["a.txt"] = "\ufeff" * mark + changed
    (found,), ledger = read("brat", files)
    if document.entities and ledger["texts"].number_repaired:
        assert found.text.lstrip("\ufeff").replace("\r", "") == document.text.replace("\r", "")
        assert [entity.text_in(found.text) for entity in found.entities] == [
            entity.text_in(document.text) for entity in document.entities
        ]
    if mark and not line_ends and document.entities:
        assert found.text == document.text
    assert ledger["texts"].number_found == 1


def test_duplicates_are_one_and_what_refers_to_them_refers_to_it() -> None:
    lines = ["T1\tX 2 6\tpain", "T2\tX 2 6\tpain", "T3\tX 0 1\tA", "R1\tY Arg1:T2 Arg2:T3", "R2\tY Arg1:T1 Arg2:T3"]
    files = BRAT | {"a.ann": "\n".join([*lines, "A1\tN T2", "A2\tN R2", "A3\tN R1"])}
    found, ledger = read("brat", files)
    assert [entity.id for entity in found[0].entities] == ["T1", "T3"]
    assert [relation.arguments[0].target for relation in found[0].relations] == ["T1"]
    assert [(one.id, one.target) for one in found[0].attributes] == [("A1", "T1"), ("A2", "R1")]
    assert [ledger[kind].reasons["duplicate"] for kind in ("entities", "relations", "attributes")] == [1, 1, 1]
    ledger = Ledger()
    with pytest.raises(UserError, match=r"a\.ann, line 2: expected an annotation once"):
        source = SOURCES["brat"].read(members(files), ledger)
        settle.settle(source, ledger, Policies(duplicates="refuse"))


def test_what_refers_to_what_was_refused_is_refused_and_counted() -> None:
    lines = ["T1\tX 2 6\tpain", "T2\tX 8 11\tnothere", "T3\tX 0 1\tA"]
    lines += ["E1\tX:T2 Theme:T1", "E2\tX:T3 Theme:E1", "E3\tX:T1 Theme:T3", "A1\tN E2", "A2\tN T2"]
    found, ledger = read("brat", BRAT | {"a.ann": "\n".join(lines)})
    assert [relation.id for relation in found[0].relations] == ["E3"]
    assert ledger["relations"].reasons == {"refers to what was refused": 2}
    assert ledger["attributes"].reasons == {"refers to what was refused": 2}


def test_events_come_back_as_events() -> None:
    lines = ["T1\tX 2 6\tpain", "T2\tY 7 10\twas", "T3\tX 0 1\tA"]
    lines += ["E1\tX:T3 Theme:T1", "E2\tY:T2 Theme:E1 Cause:T1", "R1\tZ Arg1:T1 Arg2:T2"]
    found, ledger = read("brat", BRAT | {"a.ann": "\n".join(lines)})
    sides = tasks.records({"train": found}, Policies(pairs="document"), "", False, ledger)[tasks.RELATIONS]
    conversion = way_back.Conversion("brat", tasks.RELATIONS, way_back.roles_of(found), False, Path())
    back = conversion.predicted(found, sides["train"], sides["train"])
    files = SOURCES["brat"].write(back)
    after = {frozenset(line.split("\t")[1].split()) for line in files["a.ann"].splitlines() if line[0] in "ER"}
    # An event as an argument is its trigger for a model.
    assert after == {
        frozenset({"X:T3", "Theme:T1"}),
        frozenset({"Y:T2", "Theme:T3", "Cause:T1"}),
        frozenset({"Z", "Arg1:T1", "Arg2:T2"}),
    }


def test_xml_with_entities_of_its_own_is_refused() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "secret">]><collection><document><id>&b;</id></document></collection>'
    outside = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><collection>&b;</collection>'
    for text in (bomb, outside):
        with pytest.raises(UserError, match=r"a\.xml: expected XML without entities of its own"):
            read("bioc", {"a.xml": text})


@given(text=invented.texts((" ", "  ", "\n", "\r\n")), shift=st.integers(-8, 8), data=st.data())
@settings(max_examples=40)
def test_offsets_are_moved_to_the_nearest_quoted_text_and_never_to_another(
    text: tuple[str, list[tuple[int, int]]], shift: int, data: st.DataObject
) -> None:
    body, words = text
    start, end = data.draw(st.sampled_from(words))
    if not 0 <= start + shift < end + shift <= len(body):
        return
    quote = body[start:end]
    ledger = Ledger(Reading(max_malformed_fraction=1))
    ledger["entities"].found()
    document = Document("d", body, entities=[Entity("1", ((start + shift, end + shift),), "X", quote)])
    (found,) = settle.settle([document], ledger, Policies())
    for entity in found.entities:
        at = entity.text_in(body)
        assert at.lower() == quote.lower()
        assert abs(entity.start - start - shift) <= 5
    if not found.entities:
        near = [n for n in range(max(0, start + shift - 5), start + shift + 6) if body[n : n + len(quote)] == quote]
        assert len(near) != 1


@pytest.mark.parametrize(
    ("text", "search", "expected"),
    [
        ("xx yy xx", 5, None),  # as near on either side
        ("xx yy x", 5, ((0, 2),)),
        ("xx yy x", 2, None),
        ("XX yy x", 5, ((0, 2),)),
    ],
)
def test_a_quoted_text_is_moved_to_where_it_is_alone(text: str, search: int, expected: object) -> None:
    ledger = Ledger(Reading(max_malformed_fraction=1))
    ledger["entities"].found()
    document = Document("d", text, entities=[Entity("1", ((3, 5),), "X", "xx")])
    (found,) = settle.settle([document], ledger, Policies(offset_search=search))
    assert [entity.parts for entity in found.entities] == [expected] * (expected is not None)


def test_policies_say_what_becomes_of_an_entity() -> None:
    text = "renal and hepatic\nfailure  xyz"
    whole = Entity("1", ((0, 5), (18, 25)), "X")
    inside = Entity("2", ((28, 29),), "X")
    joined = Entity("3", ((10, 17), (18, 25)), "X")

    def of(entity: Entity, **policies: str) -> tuple[object, ...]:
        one = tasks.single(entity, text, Policies(**policies))
        return (one.span and one.span[:2], *one.rules, *one.notes, *[one.reason][: bool(one.reason)])

    assert of(whole) == ((0, 25), "discontinuous: envelope", "over a line end")
    assert of(whole, discontinuous="first") == ((0, 5), "discontinuous: first")
    assert of(whole, discontinuous="refuse") == (None, "discontinuous (--discontinuous=refuse)")
    assert of(joined, discontinuous="refuse")[:2] == ((10, 25), "parts with only white space between: joined")
    assert of(joined, line_ends="first")[0] == (10, 17)
    assert of(joined, line_ends="refuse") == (None, "over a line end (--line_ends=refuse)")
    assert of(Entity("4", ((9, 13),), "X"))[1:] == ("begins or ends inside a word", "begins or ends with white space")
    assert of(inside) == ((28, 29), "begins or ends inside a word")
    assert of(inside, split_tokens="widen")[0] == (27, 30)
    assert of(inside, split_tokens="refuse")[0] is None


def test_overlaps_are_resolved_as_named() -> None:
    document = Document("d", "a b c d", entities=[])
    for number, (start, end, label) in enumerate([(0, 3, "X"), (2, 7, "Y"), (0, 1, "Y"), (6, 7, "Z")]):
        document.entities.append(Entity(str(number), ((start, end),), label))

    def kept(**policies: object) -> dict[str, list[tuple[int, int]]]:
        ledger = Ledger()
        found = tasks.records({"train": [document]}, Policies(**policies), "", False, ledger)  # type: ignore[arg-type]
        ledger.check()
        return {task: [(e["start"], e["end"]) for e in of["train"][0]["entities"]] for task, of in found.items()}

    assert kept() == {"entities": [(0, 1), (2, 7)]}
    assert kept(overlaps="first") == {"entities": [(0, 3), (6, 7)]}
    assert kept(overlaps="priority", type_priority=("Z", "X")) == {"entities": [(0, 3), (6, 7)]}
    assert kept(overlaps="layers") == {"entities-1": [(0, 3)], "entities-2": [(0, 1), (2, 7)], "entities-3": [(6, 7)]}
    with pytest.raises(UserError, match="--type_priority"):
        Policies(overlaps="priority")


def test_bc5cdr_is_the_same_in_both_forms(shared_data: Path) -> None:
    found = {}
    for corpus, name in (("pubtator", "pubtator"), ("bioc", "bioc/CDR_sample.BioC.xml")):
        ledger = Ledger()
        source = archives.members(shared_data / "formats" / name, Ledger())
        documents = settle.settle(SOURCES[corpus].read(source, ledger), ledger, Policies())
        records = tasks.records({"train": documents}, Policies(pairs="document"), "", False, ledger)
        ledger.check()
        found[corpus] = documents, records, ledger
    (pubtator, in_pubtator, ledger), (bioc, in_bioc, other) = found["pubtator"], found["bioc"]
    assert [(one.id, one.text) for one in pubtator] == [(one.id, one.text) for one in bioc]
    assert len(pubtator) == 50
    assert [ledger[name].number_found for name in ("entities", "relations")] == [934, 123]
    assert [other[name].number_found for name in ("entities", "relations")] == [945, 123]
    assert ledger["entities"].notes["composite mentions, kept whole"] == 5
    assert other["entities"].rules == {"offsets moved to the quoted text": 1}
    assert sum(len(entity.parts) > 1 for one in bioc for entity in one.entities) == 6
    assert other["in task entities"].reasons == {"individual mention of a composite (--composites=whole)": 11}
    assert in_pubtator[tasks.ENTITIES] == in_bioc[tasks.ENTITIES]

    def related(records: dict[str, dict[str, list[dict[str, object]]]]) -> set[tuple[object, ...]]:
        key = ("document", "text", "label")
        ends = ("start", "end", "type")
        return {
            (*(one[k] for k in key), *(one[side][e] for side in ("head", "tail") for e in ends))  # type: ignore[index]
            for one in records[tasks.RELATIONS]["train"]
        }

    assert related(in_pubtator) == related(in_bioc)
    # The way back: every relation, and one more, which the ledger names, since only part of a composite is related.
    of_pairs = in_pubtator[tasks.RELATIONS]["train"]
    conversion = way_back.Conversion("pubtator", tasks.RELATIONS, way_back.roles_of(pubtator), True, Path())
    back = conversion.predicted(pubtator, of_pairs, of_pairs)
    added = 0
    for one, two in zip(pubtator, back, strict=True):
        before, after = ({(r.label, r.arguments) for r in each.relations} for each in (one, two))
        assert before <= after
        added += len(after - before)
    assert added == 1 == ledger["in task relations"].notes[tasks.COMPOSITE]
    spans = in_pubtator[tasks.ENTITIES]["train"]
    found_ = replace(conversion, task=tasks.ENTITIES).predicted(pubtator, spans, spans)
    again, _ = read("pubtator", {"all.txt": SOURCES["pubtator"].write(found_)[".PubTator"]})
    assert [[(e.parts, e.label) for e in one.entities] for one in again] == [
        sorted((e.parts, e.label) for e in one.entities) for one in pubtator
    ]


@pytest.mark.parametrize("name", ["brat", "bioc/everything.xml", "bioc/negbio-1.xml", "bioc/negbio-2.xml", "bioc"])
def test_the_real_files_are_read_and_come_back(shared_data: Path, name: str) -> None:
    corpus, ledger = name.partition("/")[0], Ledger()
    source = archives.members(shared_data / "formats" / name, Ledger())
    documents = settle.settle(SOURCES[corpus].read(source, ledger), ledger, Policies())
    ledger.check()
    assert (
        ledger["entities"].number_refused == ledger["entities"].reasons["duplicate"] + (2 if name == "bioc" else 0) / 2
    )
    (again, after) = read(
        corpus, {f"x{n}" if n[0] == "." else n: t for n, t in SOURCES[corpus].write(documents).items()}
    )
    assert list(map(canonical, again)) == list(map(canonical, documents))
    assert not any(entry.number_refused or entry.number_repaired for entry in after.entries.values())
    if corpus == "brat":
        assert ledger["documents"].notes == {"a .txt without .ann: no annotations": 2}
        assert [ledger[kind].number_found for kind in ("entities", "relations", "attributes", "other lines")] == [
            15,
            6,
            10,
            4,
        ]


def test_the_command_writes_what_the_tasks_read_and_a_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = (
        "T1\tProblem 2 6\tpain\nT2\tProblem 2 12\tpain or ill\nT3\tDrug 13 17\tzinc\nR1\tfor Arg1:T3 Arg2:T1\n"
    )
    for number in range(40):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"d{number}.txt").write_text("A pain or ill zinc. Or not.\n")
        (tmp_path / "in" / f"d{number}.ann").write_text(
            annotations.replace("12", "13").replace("13 17", "14 18") + "A1\tNegated T1\n"
        )
    options = command.Options(
        corpus="brat", input=str(tmp_path / "in"), output_dir=str(tmp_path / "out"), reading=Reading()
    )
    command.run(options)
    shown = capsys.readouterr().out
    out = tmp_path / "out"
    assert "refused: overlaps one that is kept" in shown
    assert "pain" not in shown
    ledger = json.loads((out / "ledger.json").read_text())
    assert ledger["entries"]["in task entities"]["refused_by_reason"] == {"overlaps one that is kept": 40}
    assert len(ledger["entries"]["in task entities"]["refusals"]) == 40
    configs = {
        "entities": EntitiesConfig(),
        "relations": RelationsConfig(),
        "attribute-Negated": ClassificationConfig(patient_column="patient"),
    }
    for task, config in configs.items():
        examples = [
            one
            for side in ("train", "validation", "test")
            for one in config.read(out / task / f"{side}.jsonl", Reading())
        ]
        assert len({one.patient for one in examples}) == 40
        conversion = way_back.find(out / task / "test.jsonl")
        assert conversion is not None
        records = [json.loads(line) for line in (out / task / "test.jsonl").read_text().splitlines()]
        written_ = conversion.write(tmp_path / f"predicted-{task}", out / task / "test.jsonl", records, False)
        assert written_ == [tmp_path / f"predicted-{task}.brat"]
        back = settle.settle(
            SOURCES["brat"].read(archives.members(written_[0], Ledger()), Ledger()), Ledger(), Policies()
        )
        before = standoff.read(out / "documents" / "test.jsonl")
        assert {one.id for one in back} == {one.id for one in before}
        if task == "relations":
            assert sorted(map(canonical, back))[0][2] == sorted(map(canonical, before))[0][2]
    assert way_back.find(out / "ledger.json") is None
    assert members({}) == []
