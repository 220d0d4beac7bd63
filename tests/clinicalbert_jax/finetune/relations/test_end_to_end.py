"""Relations over predicted entities: which pairs are decided, and n2c2 2018's counts against an independent one."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import standoff
from clinicalbert_jax.finetune.convert.standoff import Argument, Entity
from clinicalbert_jax.finetune.convert.way_back import Conversion
from clinicalbert_jax.finetune.inputs.reading import Reading
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.relations import candidates, end_to_end
from clinicalbert_jax.finetune.relations.candidates import Kind, Pair
from clinicalbert_jax.finetune.relations.end_to_end import Relation
from clinicalbert_jax.finetune.relations.task import RelationsConfig
from clinicalbert_jax.finetune.task_json import task_config
from tests.clinicalbert_jax.finetune import toy_tokenizer

pytestmark = pytest.mark.fast

TEXT = "aspirin gave fever and aspirin gave severe fever"
DRUG, FAR_DRUG = Span(0, 7, "DRUG"), Span(23, 30, "DRUG")
FEVER, SEVERE = Span(13, 18, "EFFECT"), Span(36, 48, "EFFECT")


def pair(head, tail, label="ADE"):
    return Pair("p", 1, "", TEXT, head, tail, label)


def spans(*found, field="label"):
    return [{"start": start, "end": end, field: label} for start, end, label in found]


def relation(head, tail, label="ADE"):
    (head,), (tail,) = spans(head, field="type"), spans(tail, field="type")
    return {"label": label, "head": head, "tail": tail}


def trained():
    """The task of a model that saw these pairs, as its `task.json` brings it back."""
    task = RelationsConfig().task([pair(DRUG, FEVER), pair(FAR_DRUG, FEVER, "none")])
    settings = json.loads(json.dumps({"kind": "relations", "candidates": task.config.candidates}))
    return task_config(settings).task_with_labels(task.labels)


def test_the_pairs_of_a_document_are_of_the_kinds_that_training_had(tmp_path):
    task = trained()
    assert task.config.candidates == (Kind("DRUG", "EFFECT", 6, False),)
    document = {"id": "d", "text": TEXT, "entities": spans(SEVERE, DRUG, FEVER, FAR_DRUG)}
    alone = {"id": "alone", "text": TEXT, "entities": spans(DRUG)}
    path = tmp_path / "found.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (document, alone)))
    examples = task.config.read(path, Reading(), annotated=False)
    pairs = [(one.head, one.tail) for one in examples[0].pairs]
    assert pairs == [(DRUG, FEVER), (FAR_DRUG, FEVER), (FAR_DRUG, SEVERE)]  # 29 characters to SEVERE from DRUG
    rows = task.rows(examples, toy_tokenizer.make(), annotated=False)
    assert rows.examples_N.tolist() == [0, 0, 0]
    predictions = task.decode(examples, rows, np.array([[0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]))
    first, second = (task.record(*one, show_text=False) for one in zip(examples, predictions, strict=True))
    assert [(r["head"]["start"], r["tail"]["start"], r["label"]) for r in first["relations"]] == [
        (0, 13, "ADE"),
        (23, 36, "ADE"),
    ]
    assert len(first["entities"]) == 4
    assert second == {"id": "alone", "entities": spans(DRUG), "relations": []}
    # What is written can be scored, against itself too.
    (tmp_path / "out.jsonl").write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
    documents = end_to_end.read(tmp_path / "out.jsonl", Reading())
    found = [document.relations for document in documents]
    assert end_to_end.scores(found, found).values["strict_f1"] == 1


def test_pairs_of_one_type_keep_the_order_that_training_had():
    one, other = Span(0, 2, "problem"), Span(5, 7, "problem")
    (in_order,) = candidates.kinds([pair(one, other)])
    (in_any,) = candidates.kinds([pair(one, other), pair(other, one)])
    assert (in_order.in_order, in_any.in_order) == (True, False)
    record = {"text": "abcdefghijk", "entities": spans(other, one)}
    assert [len(candidates.document(1, record, [kind]).pairs) for kind in (in_order, in_any)] == [1, 2]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"text": TEXT}, "expected the fields 'head' and 'tail', or 'entities', found neither"),
        ({"text": TEXT, "entities": 3}, "expected a list in the field 'entities'"),
        ({"text": TEXT, "entities": spans((0, 99, "secret"))}, "an entity inside its text of 48 characters"),
        ({"entities": []}, "expected a field named 'text', found none"),
    ],
)
def test_documents_that_cannot_be_used_are_named_by_line(tmp_path, record, words):
    path = tmp_path / "found.jsonl"
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(UserError, match="line 1: ") as error:
        trained().config.read(path, Reading(), annotated=False)
    assert words in str(error.value)
    assert "secret" not in str(error.value)


def test_a_model_of_an_earlier_version_does_not_guess_pairs(tmp_path):
    path = tmp_path / "found.jsonl"
    path.write_text(json.dumps({"text": TEXT, "entities": []}) + "\n")
    with pytest.raises(UserError, match="--model: expected a model that knows which pairs it was trained with"):
        RelationsConfig().read(path, Reading(), annotated=False)


ENTITIES = st.builds(
    lambda start, length, label: Span(start, start + length, label),
    st.integers(0, 9),
    st.integers(1, 4),
    st.sampled_from("DE"),
)
RELATIONS = st.lists(
    st.builds(Relation, ENTITIES, ENTITIES, st.sampled_from(["ADE", "Reason"])), max_size=5, unique=True
)


@given(documents=st.lists(st.tuples(RELATIONS, RELATIONS), min_size=1, max_size=4))
def test_relations_are_counted_as_the_script_of_n2c2_2018_does(documents):
    """Mark each annotated relation that is matched, drop the found ones that match a marked one, count what is left."""
    gold, found = zip(*documents, strict=True)
    values = end_to_end.scores(gold, found).values
    for rule in ("strict", "lenient"):
        totals, means = np.zeros(3), []
        for annotated, ours in documents:
            marked, left = set(), []
            for one in sorted(ours):
                matched = {other for other in annotated if is_same(one, other, rule)}
                if not any(other in marked for other in matched):
                    left.append(bool(matched))
                marked |= matched
            totals += (sum(left), len(left), len(annotated))
            means.append(rates_of(sum(left), len(left), len(annotated)))
        names = ("precision", "recall", "f1")
        assert [values[f"{rule}_{name}"] for name in names] == pytest.approx(rates_of(*totals))
        assert [values[f"{rule}_macro_{name}"] for name in names] == pytest.approx(np.mean(means, axis=0))


def is_same(one, other, rule):
    for ours, theirs in ((one.head, other.head), (one.tail, other.tail)):
        touching = set(range(*ours[:2])) & set(range(*theirs[:2]))
        if ours[2] != theirs[2] or not (touching if rule == "lenient" else ours == theirs):
            return False
    return one[2] == other[2]


def rates_of(right, counted, annotated):
    precision, recall = (right / of if of else 0.0 for of in (counted, annotated))
    return precision, recall, 2 * right / (counted + annotated) if right else 0.0


def command(tmp_path, gold, predicted, **options):
    for name, records in (("gold", gold), ("predicted", predicted)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("gold", "predicted")}
    end_to_end.run(end_to_end.Options(**paths, output=str(tmp_path / "scores"), reading=Reading(), **options))
    return json.loads((tmp_path / "scores.json").read_text())


def test_the_command_scores_both_ways_and_prints_no_label(tmp_path, capsys):
    gold = {"id": "1", "text": TEXT, "entities": spans(DRUG, FEVER), "relations": [relation(DRUG, FEVER, "secret")]}
    near = Span(13, 20, "EFFECT")
    found = {"id": "1", "entities": spans(DRUG, near), "relations": [relation(DRUG, near, "secret")]}
    results = command(tmp_path, [gold], [found])
    assert (results["relations"]["strict_f1"], results["relations"]["lenient_f1"]) == (0, 1)
    assert results["relations"]["secret/lenient_recall"] == 1
    assert results["entities"]["n2c2_2018_lenient_f1"] == 1
    assert "secret" not in capsys.readouterr().out
    page = (tmp_path / "scores.html").read_text()
    assert "secret" not in page
    assert "%" not in page.split("</head>")[1], "one document has no rates to show"
    with pytest.raises(UserError, match="--overwrite"):
        command(tmp_path, [gold], [found])
    assert command(tmp_path, [gold], [gold], overwrite=True)["relations"]["strict_f1"] == 1


@pytest.mark.parametrize(("copies", "is_shown"), [(19, False), (20, True)])
def test_its_page_names_a_label_that_twenty_documents_have(tmp_path, copies, is_shown):
    records = [
        {"id": f"{label}{n}", "text": TEXT, "entities": spans(DRUG, FEVER), "relations": [relation(DRUG, FEVER, label)]}
        for label, count in (("common", 30), ("zyx", copies))
        for n in range(count)
    ]
    command(tmp_path, records, records)
    page = (tmp_path / "scores.html").read_text()
    assert "100.0%" in page
    assert ("zyx" in page) == ("common" in page) == is_shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "2"}, "expected the 1 documents of .*, found 0 of them and 1 others"),
        ({"relations": [relation(DRUG, SEVERE)]}, "expected relations between entities of the record"),
        ({"relations": [3]}, "expected objects in the field 'relations'"),
        ({"entities": spans((5, 5, "DRUG"))}, "expected an entity that begins before its end"),
    ],
)
def test_other_documents_and_damaged_ones_are_refused(tmp_path, change, words):
    gold = {"id": "1", "entities": spans(DRUG, FEVER), "relations": [relation(DRUG, FEVER)]}
    with pytest.raises(UserError, match=words):
        command(tmp_path, [gold], [gold | change])
    assert not (tmp_path / "scores.json").exists()


def test_the_documents_of_a_conversion_are_read_as_they_are(tmp_path):
    ends = {"DRUG": "D", "EFFECT": "E"}
    entities = [
        Entity("D", ((0, 7),), "DRUG"),
        Entity("E", ((13, 18), (36, 42)), "EFFECT"),  # of two parts
    ]
    related = standoff.Relation("R1", "ADE", tuple(Argument(*pair) for pair in ends.items()))
    standoff.write(tmp_path / "gold.jsonl", [standoff.Document("1", TEXT, entities=entities, relations=[related])])
    (gold,) = end_to_end.read(tmp_path / "gold.jsonl", Reading())
    assert gold.relations == (Relation(DRUG, Span(13, 42, "EFFECT"), "ADE"),)
    (document,) = trained().config.read(tmp_path / "gold.jsonl", Reading(), annotated=False)
    assert [(one.head, one.tail) for one in document.pairs] == [gold.relations[0][:2]]
    concepts = standoff.Relation("R1", "CID", related.arguments[:1])
    standoff.write(tmp_path / "gold.jsonl", [standoff.Document("1", TEXT, entities=entities, relations=[concepts])])
    with pytest.raises(UserError, match="with relations of two entities, found otherwise"):
        end_to_end.read(tmp_path / "gold.jsonl", Reading())


def test_relations_over_the_entities_of_a_document_go_back_with_them():
    document = standoff.Document("1", TEXT)
    found = {"id": "1", "entities": spans(DRUG, FEVER), "relations": [relation(DRUG, FEVER)]}
    conversion = Conversion("brat", "entities", {"ADE": ["Drug", "Effect"]}, False, None)
    (back,) = conversion.predicted([document], [{"id": "1", "document": "1"}], [found])
    assert back.relations == [standoff.Relation("R1", "ADE", (Argument("Drug", "T1"), Argument("Effect", "T2")))]
    assert [entity.parts for entity in back.entities] == [((0, 7),), ((13, 18),)]
