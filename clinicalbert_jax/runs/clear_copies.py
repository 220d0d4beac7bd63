"""Remove the local copies of datasets behind URLs: `python -m clinicalbert_jax.runs.clear_copies`.

The datasets at their URLs stay, and so do the copies of runs, which may hold a checkpoint that was not sent yet.
"""

from dataclasses import dataclass

from clinicalbert_jax import cli
from clinicalbert_jax.runs import object_store


@dataclass(kw_only=True)
class Options:
    """The command has no options."""


def main(options: Options) -> None:
    """Remove the copies and say how many there were."""
    count, size = object_store.clear_datasets()
    print(f"removed {count} local copies of datasets ({size / 1e9:.2f} GB)")


if __name__ == "__main__":
    cli.run(main, Options)
