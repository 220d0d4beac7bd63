"""How every command starts and ends: options from a dataclass, one line for an error, an exit code.

A command is a dataclass of options and a function of it:

    @dataclass(kw_only=True)
    class Options:
        model: str = option("A run, an export, or a Hugging Face BERT.")
        top_k: int = option("Predictions for each [MASK].", 5, lowest=1)

    def main(options: Options) -> None: ...

    if __name__ == "__main__":
        cli.run(main, Options)

Flags are registered by `run` alone, so importing a command registers none.
"""

import dataclasses
import difflib
import os
import signal
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging
from ml_collections import config_flags

from clinicalbert_jax.config import validated
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import CONFIG_FILE, POSITIONAL, Option

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT

Options = TypeVar("Options")


def run(main: Callable[[Options], int | None], options: type[Options]) -> None:
    """Parse the flags that `options` defines and call `main` with them.

    A `UserError` becomes one line on standard error and exit code 2, Ctrl-C exit code 130. Files are written readable
    by their owner alone, since they may be derived from restricted notes.
    """
    os.umask(0o077)
    define_flags(options)

    def guarded(argv: Sequence[str]) -> int | None:
        if not flags.FLAGS["verbosity"].present:
            # Libraries log a screenful for every checkpoint, and a traceback for exceptions that they also raise.
            logging.set_verbosity(logging.FATAL)
        try:
            return main(parsed(options, argv[1:]))
        except UserError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            _fail("interrupted", EXIT_INTERRUPTED)
        except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except OSError as error:
            _fail(f"cannot read or write {error.filename or 'a file'} ({error.strerror or error})")

    app.run(guarded, flags_parser=_parse_flags)


def define_flags(options: type, values: flags.FlagValues = flags.FLAGS) -> None:
    """Register one flag for every field of `options`; the fields of a nested dataclass become flags beside them."""
    for entry, of_type, option in _fields(options):
        if option is None:
            define_flags(of_type, values)
        elif option.kind == CONFIG_FILE:
            config_flags.DEFINE_config_file(entry.name, None, option.help, flag_values=values)
        elif option.kind != POSITIONAL:
            _define(entry, of_type, option, values)


def parsed(options: type[Options], arguments: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> Options:
    """The options as the flags give them; `arguments` are the words that belong to no flag. Raises `UserError`."""
    positional = [entry for entry, _, option in _fields(options) if option and option.kind == POSITIONAL]
    if arguments and not positional:
        raise UserError(f"expected flags only, found {arguments[0]!r}: flags are written --name=value (see --help)")
    return _built(options, tuple(arguments), values)


def _built(options: type, arguments: tuple[str, ...], values: flags.FlagValues) -> Any:
    found: dict[str, Any] = {}
    for entry, of_type, option in _fields(options):
        if option is None:
            found[entry.name] = _built(of_type, arguments, values)
        elif option.kind == POSITIONAL:
            found[entry.name] = arguments
        else:
            value = values[entry.name].value
            required = entry.default is dataclasses.MISSING
            if required and value in (None, ""):
                raise UserError(f"--{entry.name}: expected a value, found none: give --{entry.name}=... (see --help)")
            if option.kind == CONFIG_FILE and value is not None:
                value = _checked_config(value)
            found[entry.name] = tuple(value) if isinstance(value, list) else value
    return options(**found)


def _fields(options: type) -> list[tuple[dataclasses.Field, Any, Option | None]]:
    """Each field with its type and its option, None for a nested dataclass of options."""
    of_types = typing.get_type_hints(options)
    return [
        (entry, of_types[entry.name], entry.metadata.get("option"))
        for entry in dataclasses.fields(options)
        if "option" in entry.metadata or dataclasses.is_dataclass(of_types[entry.name])
    ]


def _define(entry: dataclasses.Field, of_type: Any, option: Option, values: flags.FlagValues) -> None:
    default = None if entry.default is dataclasses.MISSING else entry.default
    if isinstance(of_type, types.UnionType):
        (of_type,) = [one for one in typing.get_args(of_type) if one is not types.NoneType]
    program: Mapping[str, Any] = {"flag_values": values, "module_name": sys.argv[0]}
    arguments = (entry.name, default, option.help)
    if option.choices:
        flags.DEFINE_enum(entry.name, default, option.choices, option.help, **program)
    elif typing.get_origin(of_type) is tuple:
        flags.DEFINE_list(entry.name, list(default or ()), option.help, **program)
    elif of_type is bool:
        flags.DEFINE_bool(*arguments, **program)
    elif of_type is int:
        flags.DEFINE_integer(*arguments, lower_bound=option.lowest, **program)  # type: ignore[arg-type]
    elif of_type is float:
        flags.DEFINE_float(*arguments, lower_bound=option.lowest, **program)
    else:
        flags.DEFINE_string(*arguments, **program)


def _checked_config(config: Any) -> Any:
    try:
        return validated(config)
    except OSError:
        raise UserError(_wrong_config(sys.argv) or "--config: the file cannot be read: check its permissions") from None


def _parse_flags(argv: Sequence[str]) -> Sequence[str]:
    # absl prints its whole help text for a misspelt flag, and overrides of a config raise whatever they meet.
    try:
        return flags.FLAGS(list(argv))
    except UserError as error:
        _fail(str(error))
    except flags.UnrecognizedFlagError as error:
        name = error.flagname.removeprefix("no") if error.flagname.startswith("no-") else error.flagname
        _fail(f"--{error.flagname}: expected an option of this command, found another{_nearest(name, flags.FLAGS)}")
    except flags.Error as error:
        _fail(f"{' '.join(str(error).split())} (see --help)")
    except (OSError, KeyError, AttributeError, TypeError, ValueError) as error:
        _fail(_wrong_config(argv) or " ".join(str(error).split()))


def _nearest(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; the nearest is --{near[0]} (see --help)" if near else " (see --help)"


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
                near = difflib.get_close_matches(part, fields, n=1, cutoff=0.5)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                return (
                    f"--{name}: expected a field of {holder_name} ({', '.join(fields) or 'none'}), found {part!r}{hint}"
                )
            holder, holder_name = getattr(holder, part), f"{holder_name}.{part}"
    return None


def _path(argv: Sequence[str]) -> str:
    return next((argument.split("=", 1)[1] for argument in argv if argument.startswith("--config=")), "")


def _fail(message: str, code: int = EXIT_USER_ERROR) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
