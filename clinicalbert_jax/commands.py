"""How every command starts and ends: absl flags in, one line and an exit code out."""

import os
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from clinicalbert_jax.errors import UserError

EXIT_USER_ERROR = 2


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run `main` with absl's flags; a user's mistake becomes one line on standard error and exit code 2.

    What a command writes is readable by its owner alone, since it may be derived from restricted notes.
    """
    os.umask(0o077)
    app.run(_one_line_errors(main), flags_parser=_parse_flags)


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
    # absl prints the whole help text for a misspelt flag; the last line of its message is all that is needed.
    try:
        return flags.FLAGS(list(argv))
    except UserError as error:
        _fail(str(error))
    except flags.Error as error:
        _fail(f"{' '.join(str(error).split())} (see --help)")
    raise AssertionError("unreachable")


def _one_line_errors(main: Callable[[Sequence[str]], int | None]) -> Callable[[Sequence[str]], int | None]:
    def wrapped(argv: Sequence[str]) -> int | None:
        try:
            return main(argv)
        except UserError as error:
            _fail(str(error))
        raise AssertionError("unreachable")

    return wrapped


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)
