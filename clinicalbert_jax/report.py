"""The report of a run as one HTML page: `python -m clinicalbert_jax.report --workdir=RUN`."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from clinicalbert_jax import commands, remote, run_page
from clinicalbert_jax.errors import UserError

FILE_NAME = "report.html"

WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run, or its URL.")
OUTPUT = flags.DEFINE_string("output", None, "Where the page is written; RUN/report.html by default.")


def main(argv: Sequence[str]) -> None:
    """Write the page and say where it lies."""
    commands.refuse_arguments(argv)
    run, _ = remote.run(commands.required(WORKDIR))
    output = Path(OUTPUT.value) if OUTPUT.value else run / FILE_NAME
    text = run_page.page(run)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--output: cannot write {output} ({error.strerror})") from None
    print(output)


if __name__ == "__main__":
    commands.run(main)
