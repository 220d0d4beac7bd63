"""Clinical notes to masked sentence pairs: `python -m data_prep --input=... --output_dir=...
--vocab_file=...`.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from absl import flags

from clinicalbert_jax import commands
from clinicalbert_jax.manifest import Manifest
from data_prep import prepare
from data_prep.config import LAYOUTS, MASKINGS, PAIRINGS, PrepConfig, VocabularyConfig
from data_prep.notes import SPLITS, SelectionConfig
from data_prep.sources import FORMATS, SourceConfig

EXIT_STOPPED = 130

INPUT = flags.DEFINE_list("input", [], "Files, directories, globs or fsspec URLs of notes, separated by commas.")
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where NAME/VERSION is written.")
NUM_WORKERS = flags.DEFINE_integer("num_workers", 2, "Processes that build shards; the bytes do not depend on it.")
ENGINE = flags.DEFINE_enum("engine", "local", ["local", "beam"], "Local processes, or Apache Beam.")
BEAM_OPTIONS = flags.DEFINE_list("beam_options", [], "Pipeline options for Beam, as runner=DirectRunner,...")

INPUT_FORMAT = flags.DEFINE_enum("input_format", "auto", FORMATS, "What the input is; auto: by its name and columns.")
TEXT_COLUMN = flags.DEFINE_string("text_column", "", "The column of the note's text, in one's own files.")
PATIENT_COLUMN = flags.DEFINE_string("patient_column", "", "The column that tells patients apart.")
TIME_COLUMN = flags.DEFINE_string("time_column", "", "The column by which a patient's notes are ordered.")
ID_COLUMN = flags.DEFINE_string("id_column", "", "The column of the note's identifier.")
CATEGORY_COLUMN = flags.DEFINE_string("category_column", "", "The column of the note's category.")
EACH_NOTE = flags.DEFINE_bool("each_note_is_a_patient", False, "Say so where notes have no patient column.")
OVERLAP = flags.DEFINE_bool("allow_patient_overlap", False, "Mix sources whose patients may be the same people.")
ENCODING = flags.DEFINE_string("encoding", "utf-8", "Of text files.")

CATEGORIES = flags.DEFINE_list("categories", [], "Take notes of these categories only.")
EXCLUDE_PATIENTS = flags.DEFINE_string("exclude_patients", "", "A file of patients to leave out, one a line.")
EXCLUDE_TEXT = flags.DEFINE_list("exclude_text", [], "Downstream test files: notes that share text with them go.")
VALIDATION = flags.DEFINE_float("validation_fraction", 0.05, "The share of patients in the validation split.")
TEST = flags.DEFINE_float("test_fraction", 0.05, "The share of patients in the test split.")
BUCKET = flags.DEFINE_float("bucket_megabytes", 6.0, "Text in a bucket, of which a worker holds one at a time.")
SALT = flags.DEFINE_string("salt", "clinicalbert_jax", "Keys the hashes of patients' identifiers.")

VOCAB_FILE = flags.DEFINE_string("vocab_file", "", "A BERT vocab.txt, or a tokenizer's directory.")
DO_LOWER_CASE = flags.DEFINE_bool("do_lower_case", None, "Lower-case the text; default: as the vocabulary has it.")
TRAIN_VOCAB = flags.DEFINE_bool("train_vocab", False, "Train a WordPiece vocabulary on the notes.")
VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 28_996, "Of the vocabulary trained.")
EXTEND_VOCAB = flags.DEFINE_integer("extend_vocab", 0, "Add this many of the notes' frequent words to --vocab_file.")

NAME = flags.DEFINE_string("name", "clinical_notes", "Of the dataset.")
VERSION = flags.DEFINE_string("version", "1.0.0", "Of the dataset.")
DEID_POLICY = flags.DEFINE_string("deid_policy", "keep", "De-identification marks: keep, type or remove.")
NEAR_DUPLICATE = flags.DEFINE_float(
    "near_duplicate_threshold", 0.8, "Similarity from which a note copies an earlier one of its patient; over 1: none."
)
MAX_SEQ_LENGTH = flags.DEFINE_integer("max_seq_length", 128, "Tokens in a row.")
MAX_PREDICTIONS = flags.DEFINE_integer(
    "max_predictions_per_seq", 0, "Masked pieces in a row at most; 0: 15 % of max_seq_length and a little."
)
LAYOUT = flags.DEFINE_enum("layout", "padded", LAYOUTS, "One pair a row, or several.")
MAX_SEQUENCES = flags.DEFINE_integer("max_sequences_per_row", 8, "Pairs in a packed row at most.")
PAIRING = flags.DEFINE_enum("pairing", "balanced", PAIRINGS, "How next-sentence pairs are made.")
MASKING = flags.DEFINE_enum("masking", "static", MASKINGS, "Mask now, or leave it to the trainer.")
WHOLE_WORD = flags.DEFINE_bool("whole_word_masking", False, "Mask all pieces of a word or none.")
MASKED_LM_PROB = flags.DEFINE_float("masked_lm_prob", 0.15, "The share of pieces that are predicted.")
SHORT_SEQ_PROB = flags.DEFINE_float("short_seq_prob", 0.1, "The share of pairs made shorter at random.")
DUPE_FACTOR = flags.DEFINE_integer(
    "dupe_factor", 5, "Passes over the training notes, each with pairs and masks of its own."
)
SEED = flags.DEFINE_integer("seed", 0, "Of all that is random.")


def main(argv: Sequence[str]) -> int:
    """Prepare, print the counts and, on the last line, the dataset's directory."""
    commands.refuse_arguments(argv)
    output_dir = Path(commands.required(OUTPUT_DIR)).expanduser()
    config = read_flags()
    engine = prepare.EngineConfig(
        ENGINE.value, NUM_WORKERS.value, tuple(f"--{option}" for option in BEAM_OPTIONS.value)
    )
    signal.signal(signal.SIGTERM, _stop)
    try:
        dataset_dir = prepare.run(config, output_dir, engine)
    except KeyboardInterrupt:
        print("stopped: the same command again goes on from here", file=sys.stderr)
        return EXIT_STOPPED
    print(summary(Manifest.load(dataset_dir)))
    print(dataset_dir)
    return 0


def read_flags() -> PrepConfig:
    """The settings that the flags give; raises `UserError` for one that makes no sense."""
    return PrepConfig(
        source=SourceConfig(
            inputs=tuple(INPUT.value),
            input_format=INPUT_FORMAT.value,
            text_column=TEXT_COLUMN.value,
            patient_column=PATIENT_COLUMN.value,
            time_column=TIME_COLUMN.value,
            id_column=ID_COLUMN.value,
            category_column=CATEGORY_COLUMN.value,
            each_note_is_a_patient=EACH_NOTE.value,
            allow_patient_overlap=OVERLAP.value,
            encoding=ENCODING.value,
        ),
        vocabulary=VocabularyConfig(
            vocab_file=VOCAB_FILE.value,
            do_lower_case=DO_LOWER_CASE.value,
            train_vocab=TRAIN_VOCAB.value,
            vocab_size=VOCAB_SIZE.value,
            extend_vocab=EXTEND_VOCAB.value,
        ),
        selection=SelectionConfig(
            categories=tuple(CATEGORIES.value),
            exclude_patients=EXCLUDE_PATIENTS.value,
            validation_fraction=VALIDATION.value,
            test_fraction=TEST.value,
            bucket_megabytes=BUCKET.value,
            salt=SALT.value,
        ),
        name=NAME.value,
        version=VERSION.value,
        deid_policy=DEID_POLICY.value,
        near_duplicate_threshold=NEAR_DUPLICATE.value,
        exclude_text=tuple(EXCLUDE_TEXT.value),
        max_seq_length=MAX_SEQ_LENGTH.value,
        max_predictions_per_seq=MAX_PREDICTIONS.value,
        max_sequences_per_row=MAX_SEQUENCES.value,
        layout=LAYOUT.value,
        pairing=PAIRING.value,
        masking=MASKING.value,
        whole_word_masking=WHOLE_WORD.value,
        masked_lm_prob=MASKED_LM_PROB.value,
        short_seq_prob=SHORT_SEQ_PROB.value,
        dupe_factor=DUPE_FACTOR.value,
        seed=SEED.value,
    )


def summary(manifest: Manifest) -> str:
    """A short table of counts: a line a split, and what was dropped and why."""
    lines = [f"{'split':<12}{'patients':>10}{'notes':>12}{'examples':>12}{'random next':>13}{'fill':>8}{'masked':>9}"]
    for name in [name for name in SPLITS if name in manifest.splits]:
        split = manifest.splits[name]
        statistics = manifest.extra["statistics"][name]
        shares = [statistics[key] for key in ("random_next_share", "fill", "prediction_share")]
        random_next, fill, masked = ("-" if share is None else f"{share:.1%}" for share in shares)
        lines.append(
            f"{name:<12}{split.num_patients:>10,}{split.num_notes:>12,}{split.num_examples:>12,}"
            f"{random_next:>13}{fill:>8}{masked:>9}"
        )
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in manifest.drops.items()) or "none"
    lines.append(f"notes read: {manifest.extra['num_notes_read']:,}; dropped: {dropped}")
    return "\n".join(lines)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    commands.run(main)
