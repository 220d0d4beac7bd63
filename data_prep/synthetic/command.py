"""What `python -m data_prep.synthetic` does: write a file of invented notes, or tables with their notes."""

from dataclasses import dataclass
from pathlib import Path

from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import option
from data_prep.synthetic import tables
from data_prep.synthetic.write import write


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    output: str = option("The file to write, such as NOTEEVENTS.csv.gz; with --tables a new directory.")
    num_notes: int = option("How many notes.", 2000, lowest=1)
    tables: str | None = option(
        "Write admissions, patients and codes beside the notes, in one of these layouts.", None, choices=tables.LAYOUTS
    )
    num_patients: int = option("With --tables: how many patients.", 2000, lowest=1)
    seed: int = option("The same seed gives the same bytes.", 0)
    overwrite: bool = option("Replace the output if it exists.", False)


def run(options: Options) -> None:
    """Write the file, or the directory, that the options ask for."""
    if options.tables:
        with atomic_output.directory(options.output, options.overwrite, _has_tables, flag="--output") as directory:
            num_stays = tables.write(directory, options.tables, options.num_patients, options.seed)
        print(f"wrote {num_stays:,} admissions of {options.num_patients:,} invented patients to {options.output}")
        return
    with atomic_output.file(options.output, options.overwrite) as path:
        write(path, options.num_notes, options.seed)
        num_bytes = path.stat().st_size
    print(f"wrote {options.num_notes:,} invented notes, {num_bytes / 1e6:,.1f} MB, to {options.output}")


def _has_tables(directory: Path) -> bool:
    return any((directory / name).exists() for name in ("ADMISSIONS.csv", "hosp/admissions.csv.gz"))
