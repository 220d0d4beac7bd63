import csv
import gzip
import io
import json
import logging
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clinicalbert_jax.errors import UserError
from data_prep.reading import note_readers, sources
from data_prep.reading.note_readers import Note
from data_prep.reading.selection import SelectionConfig, excluded_patients
from data_prep.reading.sources import SourceConfig

SECRET = "zanzibar"  # no message may hold it
III = ["ROW_ID", "SUBJECT_ID", "HADM_ID", "CHARTDATE", "CHARTTIME", "STORETIME", "CATEGORY", "DESCRIPTION", "CGID"]
III += ["ISERROR", "TEXT"]
IV = ["note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text"]
OWN = {
    "text_column": "body",
    "patient_column": "who",
    "id_column": "n",
    "time_column": "when",
    "category_column": "kind",
}
RECORDS = [
    {"n": "7", "who": "12", "when": "2020-01-02", "kind": "Echo", "body": "First, of \"two\"\nlines."},
    {"n": "8", "who": "13", "when": "2020-01-01", "kind": "", "body": "Zweite\u00e9."},
]  # fmt: skip
NOTES = [
    Note("7", "12", "2020-01-02", "Echo", 'First, of "two"\nlines.'),
    Note("8", "13", "2020-01-01", note_readers.NO_CATEGORY, "Zweite\u00e9."),
]


def as_csv(rows, columns, delimiter=","):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([columns, *rows])
    return text.getvalue().encode()


def mimic_iii(*notes, **columns):
    """NOTEEVENTS with (patient, text) rows; `columns` are the same in every row."""
    rows = []
    for number, (patient, text) in enumerate(notes, 1):
        row = dict.fromkeys(III, "") | {"CHARTDATE": "2150-01-01", "CATEGORY": "Echo"} | columns
        rows.append((row | {"ROW_ID": str(number), "SUBJECT_ID": patient, "TEXT": text}).values())
    return as_csv(rows, III)


def read(path, **settings):
    inputs = tuple(map(str, path)) if isinstance(path, list) else (str(path),)
    config = SourceConfig(inputs, **{"max_malformed_fraction": 1.0} | settings)
    counts = Counter()
    notes = [note for source in sources.resolve(config) for note in note_readers.read(source, config, counts)]
    return notes, dict(counts)


def refusal(path, **settings):
    with pytest.raises(UserError) as caught:
        read(path, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert not any(Path(one).name in message for one in (path if isinstance(path, list) else [path]))
    assert SECRET not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


@pytest.mark.fast
@pytest.mark.parametrize("packed", [False, True])
def test_own_notes_in_every_form_give_the_same_notes(tmp_path, packed):
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()
    rows = [record.values() for record in RECORDS]
    forms = {"a.csv": as_csv(rows, RECORDS[0]), "a.tsv": as_csv(rows, RECORDS[0], "\t"), "a.jsonl": lines}
    for name, data in forms.items():
        path = tmp_path / (name + ".gz" * packed)
        path.write_bytes(gzip.compress(data) if packed else data)
        assert read(path, **OWN) == (NOTES, {}), name
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    assert read(path, **OWN) == (NOTES, {})


def test_identifiers_read_alike_whatever_their_type(tmp_path):
    """A patient must not be two because one file has integers and another floats or text."""
    forms = {"int": [5, 6], "float": [5.0, 6.0], "text": ["5", " 6 "]}
    for name, who in forms.items():
        path = tmp_path / f"{name}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"who": who, "body": ["a", "b"]}), path)
        notes, _ = read(path, text_column="body", patient_column="who")
        assert [note.patient_id for note in notes] == ["5", "6"], name
    path = tmp_path / "null.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"who": [None, float("nan"), 7.0], "body": ["a", "b", "c"]}), path)
    notes, counts = read(path, text_column="body", patient_column="who")
    assert ([note.patient_id for note in notes], counts) == (["7"], {"no patient": 2})


def test_mimic_iii(tmp_path):
    path = tmp_path / "NOTEEVENTS.csv.gz"
    path.write_bytes(gzip.compress(mimic_iii(("3", "One."), ("", "Two."), ("4", "Three."), CATEGORY="Nursing ")))
    notes, counts = read(path)
    assert notes == [Note("1", "3", "2150-01-01", "Nursing", "One."), Note("3", "4", "2150-01-01", "Nursing", "Three.")]
    assert counts == {"no patient": 1}
    path.write_bytes(gzip.compress(mimic_iii(("3", "One."), ("4", "Two."), ISERROR="1")))
    assert read(path) == ([], {"marked as error": 2})


def test_mimic_iii_without_optional_columns_and_in_small_letters(tmp_path):
    columns = ["row_id", "subject_id", "chartdate", "category", "text"]
    (tmp_path / "n.csv").write_bytes(as_csv([["1", "2", "2150-01-01", "Echo", "Fine."]], columns))
    assert read(tmp_path / "n.csv") == ([Note("1", "2", "2150-01-01", "Echo", "Fine.")], {})


def test_mimic_iv(tmp_path):
    rows = [
        ["10-DS-1", "10", "", "DS", "1", "2180-01-01 00:00:00", "", "Fine."],
        ["11-RR-2", "11", "", "RR"] + [""] * 4,
    ]
    (tmp_path / "discharge.csv").write_bytes(as_csv(rows, IV))
    notes, _ = read(tmp_path / "discharge.csv")
    assert notes[0] == Note("10-DS-1", "10", "2180-01-01 00:00:00", "Discharge summary", "Fine.")
    assert notes[1].category == "Radiology"


@pytest.mark.fast
def test_mimic_iii_and_iv_are_not_mixed(tmp_path):
    (tmp_path / "a.csv").write_bytes(mimic_iii(("3", "One.")))
    (tmp_path / "b.csv").write_bytes(as_csv([["10-DS-1", "10", "", "DS", "1", "", "", "Fine."]], IV))
    both = [tmp_path / "a.csv", tmp_path / "b.csv"]
    assert "--allow_patient_overlap" in refusal(both)
    assert "--allow_patient_overlap" in refusal(tmp_path)
    own = {"input_format": "csv", "text_column": "TEXT", "patient_column": "SUBJECT_ID"}
    assert "--allow_patient_overlap" in refusal(both, **own)
    assert len(read(both, allow_patient_overlap=True)[0]) == 2


def test_text_files(tmp_path):
    for patient, name, text in [("p2", "b.txt", "B"), ("p1", "a.txt", "A"), ("p1", "c.txt", "C")]:
        (tmp_path / patient).mkdir(exist_ok=True)
        (tmp_path / patient / name).write_text(text)
    (tmp_path / "p1" / ".hidden.txt").write_text("not this")
    notes, _ = read(tmp_path, patient_column="directory")
    assert [(note.patient_id, note.text) for note in notes] == [("p1", "A"), ("p1", "C"), ("p2", "B")]
    assert "directory" in refusal(tmp_path, patient_column="who")
    notes, _ = read(str(tmp_path / "*" / "?.txt"), each_note_is_a_patient=True)
    assert len({note.patient_id for note in notes}) == 3


def test_sentences_form(tmp_path):
    (tmp_path / "s.txt").write_text("\nOne.\nTwo.\n\n\nThree.\n \nFour.")
    notes, _ = read(tmp_path / "s.txt", input_format="sentences")
    assert [note.text.split("\n") for note in notes] == [["One.", "Two.", ""], ["Three.", ""], ["Four."]]
    assert len({note.patient_id for note in notes}) == 3


def test_google_reference_sentences(shared_data):
    notes, _ = read(shared_data / "reference" / "sentences.txt.gz", input_format="sentences")
    assert len(notes) == 1928
    assert sum(note.text.count("\n") for note in notes) == 106_212


@pytest.mark.fast
def test_malformed_rows_are_counted_and_the_rest_is_read(tmp_path):
    data = mimic_iii(("1", "One."), ("2", "Two,\nof two lines."), ("3", "Three.")).decode()
    broken = data.replace(",Three.", ",Three.,one cell too many") + 'a,"b"c,d\n' + "short,row\n"
    (tmp_path / "n.csv").write_text(broken + data.split("\r\n", 1)[1])
    notes, counts = read(tmp_path / "n.csv")
    assert [note.text for note in notes] == ["One.", "Two,\nof two lines.", "One.", "Two,\nof two lines.", "Three."]
    assert counts == {"malformed row": 3}


def test_after_a_stray_quotation_mark_reading_goes_on(tmp_path):
    whole = mimic_iii(*((str(number), f'Text {number}, with a comma\nand a "word".') for number in range(40)))
    lines = whole.split(b"\r\n")
    lines[5] = lines[5].replace(b"Text 4", b'Te"xt 4')
    (tmp_path / "n.csv").write_bytes(b"\r\n".join(lines))
    notes, counts = read(tmp_path / "n.csv")
    assert [note.patient_id for note in notes] == [str(number) for number in range(40) if number != 4]
    assert counts["malformed row"] >= 1


def test_an_open_quotation_mark_at_the_end_is_counted(tmp_path):
    (tmp_path / "n.csv").write_bytes(mimic_iii(("1", "One."), ("2", "Two.")) + b'3,3,,,,,,,,,"never closed\n')
    notes, counts = read(tmp_path / "n.csv")
    assert (len(notes), counts) == (2, {"malformed row": 1})


def test_rows_that_an_open_quotation_mark_swallows_are_counted(tmp_path):
    rows = ["text,who", "One.,1", '"Two,2', "Three.,3", "Four.,4", '"Five.",5', "Six.,6"]
    (tmp_path / "n.csv").write_text("\n".join(rows) + "\n")
    notes, counts = read(tmp_path / "n.csv", text_column="text", patient_column="who")
    assert [note.text for note in notes] == ["One.", "Six."]
    assert counts == {"malformed row": 4}


def test_json_lines_that_are_no_notes_are_counted(tmp_path):
    lines = [
        json.dumps({"who": "1", "body": "Fine."}),
        "{",
        "[1]",
        json.dumps({"who": "1"}),
        "",
        '{"body": 5, "who": 1}',
    ]
    lines += ["[" * 100_000, json.dumps({"body": "No one's."})]
    (tmp_path / "n.jsonl").write_text("\n".join(lines))
    notes, counts = read(tmp_path / "n.jsonl", text_column="body", patient_column="who")
    assert len(notes) == 1
    assert counts == {"malformed row": 4, "empty": 1, "no patient": 1}


def test_nul_bytes_and_wrong_encoding_and_long_notes_are_read(tmp_path):
    long = "word " * 2_000_000
    (tmp_path / "n.csv").write_bytes(mimic_iii(("1", "a\0b"), ("2", long)) + b"3,3,,d,,,Echo,,,,caf\xe9\r\n")
    notes, counts = read(tmp_path / "n.csv")
    assert [note.text for note in notes] == ["a\0b", long, "caf\ufffd"]
    assert not counts
    assert read(tmp_path / "n.csv", encoding="latin-1")[0][2].text == "caf\u00e9"


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path):
    (tmp_path / "n.csv").write_bytes(b"\xef\xbb\xbf" + mimic_iii(("1", "One.")))
    assert len(read(tmp_path / "n.csv")[0]) == 1


@pytest.mark.fast
@pytest.mark.parametrize("cut", ["middle", "checksum", "not gzip"])
def test_broken_gzip_is_one_line(tmp_path, cut):
    data = gzip.compress(mimic_iii(*((str(number), f"{SECRET} {number}" * 50) for number in range(5000))))
    data = {"middle": data[: len(data) // 2], "checksum": data[:-8] + b"\0" * 8, "not gzip": SECRET.encode() * 9}[cut]
    (tmp_path / "NOTEEVENTS.csv.gz").write_bytes(data)
    assert "damaged" in refusal(tmp_path / "NOTEEVENTS.csv.gz", input_format="mimic_iii")


@pytest.mark.fast
def test_unknown_columns_are_one_line_without_the_columns_found(tmp_path):
    """A header may be a note: of a file without one, or of one whose quotation marks are not closed."""
    (tmp_path / "n.csv").write_bytes(as_csv([["1", SECRET]], ["ROW_ID", SECRET]))
    assert "TEXT" in (message := refusal(tmp_path / "n.csv")) and "found 2 columns" in message
    assert "body" in refusal(tmp_path / "n.csv", text_column="body", patient_column="SUBJECT_ID")
    none = "found none among 3 columns"
    (tmp_path / "n.jsonl").write_text(json.dumps({"who": "1", "body": SECRET, SECRET: 1}))
    assert none in refusal(tmp_path / "n.jsonl", text_column="text", patient_column="who")
    assert none in refusal(tmp_path / "n.jsonl", text_column="body", patient_column="who", id_column="n")
    pyarrow.parquet.write_table(pyarrow.table({"who": ["1"], "body": [SECRET], SECRET: [1]}), tmp_path / "n.parquet")
    assert none in refusal(tmp_path / "n.parquet", text_column="text", patient_column="who")
    (tmp_path / "n.csv").write_text("who,text,text\n1,a,b\n")
    assert "found several among 3 columns" in refusal(tmp_path / "n.csv", text_column="text", patient_column="who")


OWN_CSV = {"text_column": "text", "patient_column": "who"}


def own_csv(directory, *lines, name="n.csv", encoding="utf-8"):
    (directory / name).write_bytes("\n".join(("who,text", *lines, "")).encode(encoding))
    return directory / name


def quoted(count, text, row='{0},"{1} {0}, no change.\nSent home."'):
    return [row.format(number, text if number % 5 == 0 else "Cough") for number in range(count)]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("lines", "write", "expected", "remedy"),
    [
        (quoted(200, f'Said \\"{SECRET}, ok\\" to'), {}, "backslash", {"csv_escape": "backslash"}),
        (
            [f'{number},"{SECRET} {number}' if number % 9 == 0 else f"{number},Cough" for number in range(200)],
            {},
            "part of the text",
            {"csv_quoting": "none"},
        ),
        ([f"{number};{SECRET} {number}" for number in range(200)], {}, "another delimiter", {"csv_delimiter": ";"}),
        (
            [f"{number},{SECRET} \u00e9 {number}" for number in range(200)],
            {"encoding": "cp1252"},
            "undecodable",
            {"encoding": "cp1252"},
        ),
        (quoted(200, SECRET), {"encoding": "utf-16"}, "--encoding=utf-16", {"encoding": "utf-16"}),
        ([f"{number},{SECRET}, {number}" for number in range(200)], {}, "fields without quotation marks", None),
    ],
)  # fmt: skip
def test_many_malformed_rows_are_refused_with_the_cause_and_the_option(tmp_path, lines, write, expected, remedy):
    if expected == "another delimiter":
        (tmp_path / "n.csv").write_text("\n".join(("who;text", *lines, "")))
    else:
        own_csv(tmp_path, *lines, **write)
    message = refusal(tmp_path / "n.csv", **OWN_CSV, max_malformed_fraction=0.01)
    assert expected in message
    if remedy:
        assert f"--{next(iter(remedy))}" in message
        notes, counts = read(tmp_path / "n.csv", **OWN_CSV, **remedy, max_malformed_fraction=0.0)
        assert (len(notes), dict(counts)) == (200, {})
        assert {note.patient_id for note in notes} == set(map(str, range(200)))


def test_backslash_escapes_are_undone_and_other_backslashes_kept(tmp_path):
    path = own_csv(tmp_path, r'1,"He said \"fine\".\N mg\kg C:\\"', r"2,plain \N")
    notes, _ = read(path, **OWN_CSV, csv_escape="backslash")
    assert [note.text for note in notes] == [r'He said "fine".\N mg\kg C:' + "\\", r"plain \N"]


def test_rows_that_quotation_marks_merge_are_refused(tmp_path):
    """GLUE's way: tab-separated, and a quotation mark is part of the text."""
    path = tmp_path / "n.tsv"
    path.write_text('text\twho\n"Stable\t0\nFever\t1\nNo pain"\t2\nCough\t3\n')
    assert "--csv_quoting=none" in refusal(path, **OWN_CSV, max_malformed_fraction=0.01)
    notes, _ = read(path, **OWN_CSV, csv_quoting="none")
    assert [note.text for note in notes] == ['"Stable', "Fever", 'No pain"', "Cough"]
    assert len(read(path, **OWN_CSV, csv_quoting="doubled")[0]) == 2


@given(
    st.lists(
        st.lists(st.sampled_from(["Cough, fever.", "Sent home.", "BP 120/80, HR 70, RR 12", "", "-"]), min_size=1),
        min_size=1,
    )
)
def test_notes_of_several_lines_are_not_taken_for_merged_rows(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("notes") / "n.csv"
    texts = ["\n".join(lines) + "." for lines in texts]
    for columns in (["text", "who"], ["who", "text"]):
        rows = [[text, str(n)] if columns[0] == "text" else [str(n), text] for n, text in enumerate(texts)]
        path.write_bytes(as_csv(rows, columns))
        notes, counts = read(path, **OWN_CSV, max_malformed_fraction=0.0)
        assert ([note.text for note in notes], counts) == (texts, {})


def test_json_that_is_no_json_lines_is_refused_with_the_cause(tmp_path):
    records = [{"who": number, "body": SECRET} for number in range(9)]
    settings = {"text_column": "body", "patient_column": "who", "max_malformed_fraction": 0.01}
    (tmp_path / "n.jsonl").write_text('{"who": 1, "body": "a"}\n' + json.dumps(records, indent=1))
    assert "spans several lines" in refusal(tmp_path / "n.jsonl", **settings)
    rows = [{"who": number, "body": number} for number in range(9)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "n.parquet")
    assert "--text_column" in refusal(tmp_path / "n.parquet", **settings)


@pytest.mark.parametrize("option", ["text_column", "time_column", "id_column", "category_column", "patient_column"])
def test_columns_that_no_file_is_read_by_are_refused(tmp_path, option):
    (tmp_path / "n.csv").write_bytes(mimic_iii(("1", "One.")))
    assert f"--{option}" in refusal(tmp_path / "n.csv", **{option: "TEXT"})
    (tmp_path / "a.txt").write_text("One.")
    assert f"--{option}" in refusal(tmp_path / "a.txt", input_format="sentences", **{option: "TEXT"})


def test_csv_options_without_a_csv_file_are_refused(tmp_path):
    (tmp_path / "n.jsonl").write_text('{"who": 1, "body": "a"}\n')
    own = {"text_column": "body", "patient_column": "who"}
    assert "--csv_quoting" in refusal(tmp_path / "n.jsonl", **own, csv_quoting="none")
    assert "--csv_delimiter" in refusal(tmp_path / "n.jsonl", **own, csv_delimiter=";;")
    assert "--csv_escape" in refusal(tmp_path / "n.jsonl", **own, csv_quoting="none", csv_escape="backslash")


def test_mimic_iv_as_it_is_downloaded(tmp_path, capfd):
    notes = tmp_path / "2.2" / "note"
    notes.mkdir(parents=True)
    (tmp_path / "2.2" / "LICENSE.txt").write_text("Terms.")
    (tmp_path / "2.2" / "SHA256SUMS.txt").write_text("0 note/discharge.csv.gz")
    row = ["10-DS-1", "10", "", "DS", "1", "2180-01-01 00:00:00", "", "Fine."]
    detail = as_csv(
        [["10-DS-1", "10", "author", "___", "1"]],
        ["note_id", "subject_id", "field_name", "field_value", "field_ordinal"],
    )
    for name, text in {"discharge": as_csv([row], IV), "discharge_detail": detail, "radiology_detail": detail}.items():
        (notes / f"{name}.csv.gz").write_bytes(gzip.compress(text))
    assert len(read(tmp_path / "2.2")[0]) == 1
    said = capfd.readouterr().err
    assert "passed over" in said
    for name in ("2 detail files", "license.txt", "sha256sums.txt"):
        assert name in said
    assert len(read(str(notes / "*.csv.gz"))[0]) == 1
    assert "expected the columns" in refusal(notes / "discharge_detail.csv.gz")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "--text_column"),
        ({"text_column": "body"}, "--each_note_is_a_patient"),
        ({"text_column": "body", "patient_column": "who", "each_note_is_a_patient": True}, "exclude each other"),
        ({"input_format": "xml"}, "--input_format"),
        ({"encoding": "klingon"}, "--encoding"),
        ({"input_format": "parquet", "text_column": "body", "patient_column": "who"}, "cannot be read as Parquet"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, expected):
    (tmp_path / "n.jsonl").write_text(json.dumps({"who": "1", "body": SECRET}))
    assert expected in refusal(tmp_path / "n.jsonl", **settings)


def test_files_that_are_not_there_are_refused(tmp_path):
    assert "found none" in refusal(tmp_path / "no.csv")
    assert "found none" in refusal(tmp_path)
    assert "found none" in refusal(str(tmp_path / "*.csv"))
    assert "found none" in refusal(f"file://{tmp_path}/no.csv")
    assert "cannot be reached" in refusal("klingon://bucket/no.csv")
    (tmp_path / "n.pdf").write_text(SECRET)
    assert "--input_format" in refusal(tmp_path / "n.pdf")
    (tmp_path / "n.csv").write_bytes(mimic_iii(("1", "One.")))
    assert "twice" in refusal([tmp_path / "n.csv", tmp_path / "n.csv"])


def test_nothing_is_logged(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "n.csv").write_bytes(mimic_iii(("1", SECRET)) + b'x,"y"' + SECRET.encode() + b"\n")
    read(tmp_path / "n.csv")
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.fixture(scope="module")
def s3():
    """A real S3 server on this machine, and how to reach it."""
    server_module = pytest.importorskip("moto.server", reason="moto is of the test extra")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_s3(s3, tmp_path, monkeypatch):
    s3fs = pytest.importorskip("s3fs", reason="s3fs is of the test extra")
    for name, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    filesystem = s3fs.S3FileSystem(skip_instance_cache=True)
    filesystem.mkdir("hospital")
    data = mimic_iii(*((str(number), f"Note {number}, long enough to be split. " * 40) for number in range(2000)))
    filesystem.pipe("hospital/2020/NOTEEVENTS.csv.gz", gzip.compress(data))
    filesystem.pipe("hospital/2021/NOTEEVENTS.csv", data)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(RECORDS), tmp_path / "own.parquet")
    filesystem.put(str(tmp_path / "own.parquet"), "hospital/own.parquet")
    (tmp_path / "n.csv").write_bytes(data)
    notes = read(tmp_path / "n.csv")[0]
    assert read("s3://hospital/2020/NOTEEVENTS.csv.gz") == (notes, {})
    assert read("s3://hospital/*/NOTEEVENTS*") == (notes * 2, {})
    assert read("s3://hospital/2021") == (notes, {})
    assert read("s3://hospital/own.parquet", **OWN) == (NOTES, {})
    assert "found none" in refusal("s3://hospital/no.csv")


@pytest.mark.fast
@example([0.0, -0.0], [])
@given(st.lists(st.floats(allow_nan=False), max_size=8), st.lists(st.datetimes(), max_size=8))
def test_times_sort_as_text(numbers, times):
    encoded = [note_readers.sortable_time(number) for number in sorted(numbers)]
    assert encoded == sorted(encoded)
    written = [time.isoformat(" T"[place % 2], "seconds") for place, time in enumerate(sorted(times))]
    assert list(map(note_readers.sortable_time, written)) == sorted(map(note_readers.sortable_time, written))


@pytest.mark.fast
def test_numbers_order_the_notes_whatever_their_spelling():
    assert note_readers.sortable_time("9") < note_readers.sortable_time(10.0) == note_readers.sortable_time(" 10")
    assert note_readers.sortable_time("-0.0") == note_readers.sortable_time(0)
    for nothing in (None, float("nan"), "nan", " "):
        assert note_readers.sortable_time(nothing) == ""


@pytest.mark.fast
def test_times_in_another_form_are_refused_without_quoting_one(tmp_path):
    rows = [[str(day), "1", f"{day}/3/2130 08:00", "Some text."] for day in range(1, 9)]
    path = tmp_path / "own.csv"
    path.write_bytes(as_csv(rows, ["id", "whose", "when", "words"]))
    columns = {"text_column": "words", "patient_column": "whose", "time_column": "when"}
    message = refusal(path, **columns, max_malformed_fraction=0.01)
    assert "8 of 8 notes have a time that is neither a number nor a date" in message
    assert "3/2130" not in message
    notes, _ = read(path, **columns)  # allowed: after those whose time is known
    assert {note.time for note in notes} == {"\uffff"}


@pytest.mark.fast
def test_mimic_iii_as_it_is_downloaded(tmp_path, capfd):
    (tmp_path / "NOTEEVENTS.csv.gz").write_bytes(gzip.compress(mimic_iii(("3", "One."))))
    for name in ("ADMISSIONS.csv", "D_ITEMS.csv.gz", "PATIENTS.csv"):
        data = as_csv([["1", SECRET]], ["ROW_ID", "SUBJECT_ID"])
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    notes, _ = read(tmp_path)
    assert [note.text for note in notes] == ["One."]
    assert "passed over, since they hold no notes: 0 detail files, 3 tables" in capfd.readouterr().err
    (tmp_path / "OTHER.csv").write_bytes(as_csv([["1", SECRET]], ["ROW_ID", "SUBJECT_ID"]))
    assert "expected the columns of NOTEEVENTS" in refusal(tmp_path)


@pytest.mark.fast
@pytest.mark.parametrize(("value", "is_error"), [("1", 1), ("1.0", 1), ("true", 1), ("t", 1), ("0", 0), ("FALSE", 0)])
def test_every_spelling_of_iserror_is_known(tmp_path, value, is_error):
    (tmp_path / "NOTEEVENTS.csv").write_bytes(mimic_iii(("3", "One."), ISERROR=value))
    notes, counts = read(tmp_path / "NOTEEVENTS.csv")
    assert (len(notes), counts) == ((0, {"marked as error": 1}) if is_error else (1, {}))


@pytest.mark.fast
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_times_of_pandas_are_read(tmp_path, zone):
    when = pyarrow.array([1577923200000000001], pyarrow.timestamp("ns", zone))
    table = pyarrow.table({"who": ["12"], "body": ["a"], "when": when})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    notes, _ = read(tmp_path / "a.parquet", text_column="body", patient_column="who", time_column="when")
    assert notes[0].time.startswith("2020-01-02 00:00:00")


@pytest.mark.fast
def test_parquet_that_is_not_in_utf_8_is_refused(tmp_path):
    latin = pyarrow.array(["caf\u00e9 zanzibar".encode("latin-1")], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 1, latin.buffers())
    pyarrow.parquet.write_table(pyarrow.table({"who": ["12"], "body": text}), tmp_path / "a.parquet")
    assert "in UTF-8, found other" in refusal(tmp_path / "a.parquet", text_column="body", patient_column="who")


@pytest.mark.fast
def test_a_column_of_almost_the_name_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes(as_csv([["12", "a"]], ["who", " Body"]))
    message = refusal(tmp_path / "a.csv", text_column="body", patient_column="who")
    assert "expected one column body, found one that differs by white space or case among 2 columns" in message
    (tmp_path / "a.csv").write_bytes(as_csv([["12", "a"]], ["who", "text"]))
    assert "found none" in refusal(tmp_path / "a.csv", text_column="body", patient_column="who")


@pytest.mark.fast
def test_a_json_array_is_named_as_the_cause(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps([{"who": "1", "body": SECRET}], indent=1))
    assert "one JSON array" in refusal(tmp_path / "a.jsonl", text_column="body", patient_column="who")


@pytest.mark.fast
def test_where_an_identifier_was_rounded_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes(as_csv([["1.23457E+11", "a"]], ["who", "body"]))
    message = refusal(tmp_path / "a.csv", text_column="body", patient_column="who")
    assert message.startswith(
        "--input: expected identifiers as text or integers, found a number in scientific notation"
    )
    with pytest.raises(UserError, match="--exclude_patients: expected identifiers as text"):
        (tmp_path / "out.txt").write_text("1\n1.23457E+11\n")
        excluded_patients(SelectionConfig(exclude_patients=str(tmp_path / "out.txt")))
