"""How every command starts and ends: absl flags in, one line and an exit code out."""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging

from clinicalbert_jax.config import validated
from clinicalbert_jax.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT

Value = TypeVar("Value")


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run `main` with absl's flags; a user's mistake becomes one line on standard error and exit code 2, Ctrl-C 130.

    What a command writes is readable by its owner alone, since it may be derived from restricted notes.
    """
    os.umask(0o077)

    def guarded(argv: Sequence[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            # Libraries log a screenful a checkpoint, and a traceback for every exception that they also raise.
            logging.set_verbosity(logging.FATAL)
        try:
            return main(argv)
        except UserError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            _fail("interrupted", EXIT_INTERRUPTED)
        except BrokenPipeError:  # whoever read the output, `head` say, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except OSError as error:
            _fail(f"cannot read or write {error.filename or 'a file'} ({error.strerror or error})")

    app.run(guarded, flags_parser=_parse_flags)


def required(flag: flags.FlagHolder[Value | None]) -> Value:
    """The value of a flag that must be given; raises `UserError` where it was not."""
    if flag.value is None or flag.value == "":
        raise UserError(f"--{flag.name}: expected a value, found none: give --{flag.name}=... (see --help)")
    return flag.value


def refuse_arguments(argv: Sequence[str]) -> None:
    """Raise `UserError` for a word that belongs to no flag."""
    if len(argv) > 1:
        raise UserError(f"expected flags only, found {argv[1]!r}: flags are written --name=value (see --help)")


def read_config(flag: flags.FlagHolder) -> Any:
    """The experiment of a `--config=FILE` flag with its overrides, every value checked."""
    try:
        return validated(required(flag))
    except OSError:
        raise UserError(_wrong_config(sys.argv) or "--config: the file cannot be read: check its permissions") from None


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
    # absl prints its whole help text for a misspelt flag, and config overrides raise whatever they meet.
    try:
        return flags.FLAGS(list(argv))
    except UserError as error:
        _fail(str(error))
    except flags.Error as error:
        _fail(f"{' '.join(str(error).split())} (see --help)")
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        _fail(_wrong_config(argv) or " ".join(str(error).split()))


def _wrong_config(argv: Sequence[str]) -> str | None:
    """What is wrong with `--config=FILE`, or with the first override that names no field of the config."""
    path = _path(argv)
    if not path:
        return None
    if not Path(path).is_file():
        return f"--config: expected a Python file such as configs/tiny_128.py, found none at {path}"
    config = flags.FLAGS["config"].parser.parse(path)
    for argument in argv:
        if not argument.startswith("--config."):
            continue
        name = argument.removeprefix("--").split("=")[0]
        holder, holder_name = config, "config"
        for part in name.split(".")[1:]:
            fields = [entry.name for entry in dataclasses.fields(holder)] if dataclasses.is_dataclass(holder) else []
            if part not in fields:
                return f"--{name}: expected a field of {holder_name} ({', '.join(fields) or 'none'}), found {part!r}"
            holder, holder_name = getattr(holder, part), f"{holder_name}.{part}"
    return None


def _path(argv: Sequence[str]) -> str:
    return next((argument.split("=", 1)[1] for argument in argv if argument.startswith("--config=")), "")


def _fail(message: str, code: int = EXIT_USER_ERROR) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
