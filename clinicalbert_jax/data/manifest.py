"""`manifest.json`: what a prepared dataset is, so that the trainer can refuse a wrong one before it imports JAX."""

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.data.schema import Layout
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import safe_names

FILE_NAME = "manifest.json"
FORMAT = 1
INVENTED_COLUMN = "CLINICALBERT_JAX_SYNTHETIC"  # of files of notes that say of themselves that they are invented
INVENTED = "invented"  # beside the formats in a manifest: all its sources have that column


@dataclass(frozen=True)
class Vocabulary:
    """The WordPiece vocabulary of a dataset; `vocab.txt` itself lies beside the manifest."""

    sha256: str
    size: int
    do_lower_case: bool


@dataclass(frozen=True)
class Shard:
    """One TFRecord file. `sha256` is over the whole file; its offsets lie in `FILE.index` (little-endian uint64)."""

    file: str
    num_examples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One of train, validation, test: its shards in order, and counts (`num_tokens` counts non-padding tokens)."""

    shards: tuple[Shard, ...]
    num_examples: int
    num_pairs: int
    num_tokens: int
    num_predictions: int
    num_random_next: int
    num_notes: int
    num_patients: int
    notes_by_category: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """A dataset in full.

    `options` is every preparation setting; `drops` counts notes by reason; `files` holds the SHA-256 of the
    vocabulary and the other tokenizer files, by name; they lie beside the manifest.
    """

    name: str
    version: str
    project_version: str
    vocabulary: Vocabulary
    layout: Layout
    seed: int
    options: dict[str, Any]
    categories: tuple[str, ...]
    drops: dict[str, int]
    splits: dict[str, Split]
    files: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def has_patients(self) -> bool:
        """Whether the notes named their patients; else each note or document counts as one."""
        return not self.options.get("each_note_is_a_patient") and self.options.get("input_format") != "sentences"

    def save(self, directory: Path) -> None:
        """Write `manifest.json` in `directory`."""
        document = {"format": FORMAT} | dataclasses.asdict(self)
        checksummed_json.write(directory / FILE_NAME, document)

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Read the manifest of a dataset directory; raises `UserError` where there is none that we understand."""
        path = directory / FILE_NAME
        try:
            document = checksummed_json.read(path)
        except FileNotFoundError:
            raise UserError(
                f"expected a prepared dataset in {directory}, found no {FILE_NAME}: "
                "point --data_dir at the NAME/VERSION folder that `python -m data_prep` printed"
            ) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): permit it, or prepare the data again") from None
        except ValueError:
            raise UserError(
                f"{path} was changed since it was written: restore it from a copy, or prepare the data again"
            ) from None
        if document.pop("format", None) != FORMAT:
            raise UserError(f"{path} is not of manifest format {FORMAT}: prepare the data again with this version")
        try:
            names = [shard["file"] for split in document["splits"].values() for shard in split["shards"]]
            for name in (*names, *document.get("files", {})):
                safe_names.check(name, path)
            splits = {
                name: Split(**(split | {"shards": tuple(Shard(**shard) for shard in split["shards"])}))
                for name, split in document.pop("splits").items()
            }
            return cls(
                **(
                    document
                    | {
                        "vocabulary": Vocabulary(**document["vocabulary"]),
                        "layout": Layout(**document["layout"]),
                        "categories": tuple(document["categories"]),
                        "splits": splits,
                    }
                )
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}): prepare the data again") from None


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
