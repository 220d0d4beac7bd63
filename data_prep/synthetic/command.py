"""What `python -m data_prep.synthetic` does: write a file of invented notes."""

from dataclasses import dataclass

from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.options import option
from data_prep.synthetic.write import write


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    output: str = option("The file to write, such as NOTEEVENTS.csv.gz.")
    num_notes: int = option("How many notes.", 2000, lowest=1)
    seed: int = option("The same seed gives the same bytes.", 0)
    overwrite: bool = option("Replace the output if it exists.", False)


def run(options: Options) -> None:
    """Write the file that the options ask for."""
    with atomic_output.file(options.output, options.overwrite) as path:
        write(path, options.num_notes, options.seed)
        num_bytes = path.stat().st_size
    print(f"wrote {options.num_notes:,} invented notes, {num_bytes / 1e6:,.1f} MB, to {options.output}")
