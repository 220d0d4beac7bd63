"""Every format: what is written is read as it was, every annotation accounted for; what is damaged is said."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert import settle, tasks
from clinicalbert_jax.finetune.convert.ledger import Ledger
from clinicalbert_jax.finetune.convert.policies import Policies
from clinicalbert_jax.finetune.convert.sources import SOURCES
from clinicalbert_jax.finetune.convert.standoff import Document
from clinicalbert_jax.finetune.convert.way_back import Conversion, roles_of
from clinicalbert_jax.finetune.inputs.reading import Reading
from tests.clinicalbert_jax.finetune.convert import invented
from tests.clinicalbert_jax.finetune.convert.invented import Kind, canonical, members

pytestmark = pytest.mark.fast

_XML = (" ", "  ", "\n", "\t", " \n\n", "\u00a0", "\u2028")  # XML makes \n of \r\n
_FLAT = Kind(discontinuous=False, overlapping=False, relations=False, attributes=False)
_PUBTATOR = replace(_FLAT, spaces=(" ", "  ", "\u00a0"), overlapping=True, passages=True, concepts=True)
_BIOC = Kind(spaces=_XML, attributes=False)
_TAGS = Kind(spaces=_XML, discontinuous=False)
KINDS = {
    "brat": Kind(),
    "n2c2_2018_track2": Kind(labels=("Drug", "ADE", "Reason")),
    "bioc": _BIOC,
    "made": replace(_BIOC, roles=("annotation 1", "annotation 2")),
    "pubtator": _PUBTATOR,
    "bc5cdr": replace(_PUBTATOR, labels=("Chemical", "Disease")),
    "ncbi_disease": replace(_PUBTATOR, labels=("SpecificDisease", "CompositeMention")),
    "doccano": Kind(discontinuous=False, attributes=False, roles=("from", "to")),
    "conll": replace(_FLAT, spaces=(" ",)),
    "i2b2_2010": Kind(
        discontinuous=False, overlapping=False, roles=("1", "2"), values=("absent", "hypothetical"), relation="TrAP"
    ),
    "i2b2_2012": replace(_TAGS, roles=("from", "to"), attribute="modality", values=("FACTUAL", "POSSIBLE")),
    "i2b2_2014": replace(_TAGS, relations=False, attributes=False),
    "i2b2_2006": replace(_FLAT, spaces=_XML),
    "inline_xml": replace(_FLAT, spaces=_XML),
}
# Whose files a reader may take: those of corpora in its own format.
SAME_FORMAT = {
    "brat": ("brat", "n2c2_2018_track2"),
    "bioc": ("bioc", "made"),
    "pubtator": ("pubtator", "bc5cdr", "ncbi_disease"),
}
BESIDE_TEXTS = {"i2b2_2010"}  # whose annotations alone are written


def read(corpus: str, files: dict[str, str], reading: Reading | None = None) -> tuple[list[Document], Ledger]:
    ledger = Ledger(reading or Reading())
    found = settle.settle(SOURCES[corpus].read(members(files), ledger), ledger, Policies())
    ledger.check()
    return found, ledger


def written(corpus: str, documents: Sequence[Document]) -> dict[str, str]:
    texts = {f"{one.id}.txt": one.text for one in documents} if corpus in BESIDE_TEXTS else {}
    return texts | dict(SOURCES[corpus].write(documents))


@pytest.mark.parametrize("corpus", KINDS)
@given(data=st.data())
@settings(max_examples=20)
def test_what_is_written_is_read_as_it_was(corpus: str, data: st.DataObject) -> None:
    documents = [data.draw(invented.document(KINDS[corpus], f"doc-{number}")) for number in (1, 2)]
    found, ledger = read(corpus, written(corpus, documents))
    if corpus == "conll":  # whose documents are sentences
        assert "\n".join(one.text for one in found) == "\n".join(one.text for one in documents)
        assert sum(len(one.entities) for one in found) == sum(len(one.entities) for one in documents)
    else:
        assert list(map(canonical, found)) == list(map(canonical, documents))
    assert all(entry.number_found == entry.number_as_is for entry in ledger.entries.values())
    again, _ = read(corpus, written(corpus, found))
    assert list(map(canonical, again)) == list(map(canonical, found))


@pytest.mark.parametrize("discontinuous", ["envelope", "first", "refuse"])
@pytest.mark.parametrize("overlaps", ["longest", "first", "layers"])
@given(data=st.data())
@settings(max_examples=8)
def test_annotations_that_come_back_from_a_task_are_those_that_the_ledger_says(
    discontinuous: str, overlaps: str, data: st.DataObject
) -> None:
    documents = [data.draw(invented.document(Kind(), f"doc-{number}")) for number in (1, 2, 3)]
    ledger = Ledger()
    policies = Policies(discontinuous=discontinuous, overlaps=overlaps, pairs="document")
    found = tasks.records({"train": documents}, policies, "sentence", False, ledger)
    ledger.check()
    for task, sides in found.items():
        records = sides["train"]
        assert len({record["id"] for record in records}) == len(records)
        conversion = Conversion("brat", task, roles_of(documents), False, None)  # type: ignore[arg-type]
        back = conversion.predicted(documents, records, records)
        if task.startswith(tasks.ENTITIES):
            whole = sum(
                map(len, (set(spans(one)) & set(spans(other)) for one, other in zip(documents, back, strict=True)))
            )
            kept = sum(len(one.entities) for one in back)
            entry = ledger[f"in task {task.replace('-', ', layer ')}"]
            assert kept == entry.number_as_is + entry.number_repaired
            assert whole >= entry.number_as_is
            assert all(a[1] <= b[0] for one in back for a, b in zip(ranges(one), ranges(one)[1:], strict=False))
        elif task == tasks.RELATIONS:
            entry = ledger["in task relations"]
            assert sum(len(one.relations) for one in back) == entry.number_as_is + entry.number_repaired
            assert all(
                r in canonical(one)[2] for one, other in zip(documents, back, strict=True) for r in canonical(other)[2]
            )
        else:
            entry = ledger["in task attributes"]
            assert sum(len(one.attributes) for one in back) == entry.number_as_is + entry.number_repaired
            same = [
                a
                for one, other in zip(documents, back, strict=True)
                for a in canonical(one)[3]
                if a in canonical(other)[3]
            ]
            assert len(same) == entry.number_as_is


@pytest.mark.parametrize("corpus", KINDS)
@given(data=st.data())
@settings(max_examples=5)
def test_nothing_annotated_is_left_where_nothing_was_predicted(corpus: str, data: st.DataObject) -> None:
    documents = [data.draw(invented.document(KINDS[corpus], f"doc-{number}")) for number in (1, 2)]
    found, _ = read(corpus, written(corpus, documents))
    for document in found:
        document.others = ["* annotated"]
    records = tasks.records({"train": found}, Policies(), "document", False, Ledger())
    for task, sides in records.items():
        conversion = Conversion(corpus, task, roles_of(found), False, None)  # type: ignore[arg-type]
        nothing = [{"id": one["id"], "entities": [], "label": one.get("missing", "none")} for one in sides["train"]]
        back = conversion.predicted(found, sides["train"], nothing)
        files = SOURCES[corpus].write(back)
        assert not any("annotated" in text for text in files.values())
        for one in back:
            assert not one.relations and not one.attributes
            assert not one.entities or not task.startswith(tasks.ENTITIES)


def spans(document: Document) -> list[tuple[object, ...]]:
    return [(entity.parts, entity.label) for entity in document.entities]


def ranges(document: Document) -> list[tuple[int, int]]:
    return sorted(part for entity in document.entities for part in entity.parts)


@pytest.mark.parametrize("corpus", KINDS)
@given(data=st.data())
@settings(max_examples=20)
def test_a_damaged_file_is_said_and_never_guessed(corpus: str, data: st.DataObject) -> None:
    # A line is cut short, dropped or swapped for another: the file is refused in one line without its text, or read
    # with every annotation accounted for and at its text.
    documents = [data.draw(invented.document(KINDS[corpus], f"doc-{number}")) for number in (1, 2)]
    files = written(corpus, documents)
    name = data.draw(st.sampled_from(sorted(files)))
    position = data.draw(st.integers(0, len(files[name])))
    how = data.draw(st.sampled_from(["truncated", "a line twice", "a line less"]))
    lines = files[name].split("\n")
    line = data.draw(st.integers(0, len(lines) - 1))
    if how == "truncated":
        files[name] = files[name][:position]
    elif how == "a line twice":
        files[name] = "\n".join([*lines[: line + 1], *lines[line:]])
    else:
        files[name] = "\n".join([*lines[:line], *lines[line + 1 :]])
    reading = data.draw(st.sampled_from([Reading(), Reading("skip", max_malformed_fraction=1)]))
    try:
        found, _ = read(corpus, files, reading)
    except UserError as error:
        assert "\n" not in str(error)
        assert not any(word in str(error) for word in invented.WORDS if len(word) > 3 and word != "CHEST")
        return
    for document in found:
        for entity in document.entities:
            assert all(0 <= start < end <= len(document.text) for start, end in entity.parts)
            assert entity.quote is None or settle.agreement(entity, document.text) is not None


@pytest.mark.parametrize("corpus", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_reader_refuses_the_files_of_another(corpus: str, other: str) -> None:
    documents = [Document(f"doc-{number}", "A pain was here. " * number) for number in (1, 2)]
    for one in documents:
        one.entities = [invented.Entity("T1", ((2, 6),), KINDS[other].labels[0])]
    if other in SAME_FORMAT.get(corpus, (corpus,)):
        return
    with pytest.raises(UserError) as caught:
        read(corpus, written(other, documents))
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)
