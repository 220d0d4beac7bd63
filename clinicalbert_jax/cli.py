"""Running a command: options from a dataclass, one line for an error, an exit code.

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

import csv
import dataclasses
import difflib
import glob
import importlib.util
import logging
import os
import re
import resource
import signal
import sys
import sysconfig
import threading
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from absl import app, flags

from clinicalbert_jax import errors
from clinicalbert_jax.config import validated
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns
from clinicalbert_jax.options import CONFIG_FILE, POSITIONAL, Option

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_NO_READER = 128 + signal.SIGPIPE

_TPU_FILES = ("/dev/accel*", "/dev/vfio/[0-9]*")  # a machine with a TPU has some of them

Options = TypeVar("Options")


def run(main: Callable[[Options], int | None], options: type[Options]) -> None:
    """Parse the flags that `options` defines and call `main` with them.

    Every error becomes one line on standard error and exit code 2, Ctrl-C exit code 130. Only the message of a
    `UserError` is printed: another one may quote a note, as may what libraries log, which is silenced. Since what is
    written may be derived from restricted notes, files are readable by their owner alone, and there are no core dumps.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    _leave_out_absent_tpu()
    define_flags(options)
    flags.DEFINE_bool("debug", False, "Print the traceback of an error. It may quote the text of notes.")
    threading.excepthook = lambda failure: print(outcome(failure.exc_value)[1], file=sys.stderr)

    def guarded(argv: Sequence[str]) -> int | None:
        try:
            return main(parsed(options, argv[1:]))
        except (Exception, KeyboardInterrupt) as error:
            code, message = outcome(error)
            if code == EXIT_NO_READER:  # Python would write what is left of the output at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            else:
                print(message, file=sys.stderr)
            return code

    app.run(guarded, flags_parser=_parse_flags)


def _leave_out_absent_tpu() -> None:
    """Where libtpu is installed for its compiler alone, have JAX not look for a TPU: it would print errors."""
    there = any(map(glob.glob, _TPU_FILES)) or any(name.startswith("TPU_") for name in os.environ)
    find = importlib.util.find_spec
    if find("libtpu") and not there and not find("jax_plugins"):  # a plugin: of a GPU
        os.environ.setdefault("JAX_PLATFORMS", "cpu")


def progress_bar(items: Iterable[Any] | None = None, doing: str = "", total: int | None = None, **shown: Any) -> Any:
    """A `tqdm` bar, with `shown` as its arguments. In a job's log: a line each half minute, and none before."""
    from tqdm import tqdm

    pace = {} if sys.stderr.isatty() else {"delay": 30.0, "mininterval": 30.0}
    return tqdm(items, doing, total, **pace, **shown)


def outcome(error: BaseException | None) -> tuple[int, str]:
    """Exit code and message of a command that ends by `error`; with --debug the message begins with the traceback.

    One line for any exception: a `UserError` in its own words, another one by its type and where it was raised.
    """
    code = EXIT_USER_ERROR
    if isinstance(error, KeyboardInterrupt):
        code, line = EXIT_INTERRUPTED, "interrupted"
    elif isinstance(error, BrokenPipeError):  # the reader of the output, such as `head`, has closed it
        code, line = EXIT_NO_READER, "nobody reads the output"
    elif isinstance(error, UserError):
        line = str(error)
    elif isinstance(error, OSError) and error.errno:
        file = str(error.filename or "a file")
        label = errors.labelled(file)
        file = file if label == file else label.split("/")[0]  # no names of files in a directory
        line = f"cannot read or write {file} ({os.strerror(error.errno)})"
    else:
        out_of_memory = isinstance(error, MemoryError) or str(error).startswith("RESOURCE_EXHAUSTED")
        what = "out of memory" if out_of_memory else "unexpected error"
        where = f"{type(error).__name__} at {_position(error)}"
        line = f"{what} ({where}): --debug prints the traceback, which may quote notes"
    debug = "--debug" in sys.argv  # whether or not the flags could be parsed
    return code, "".join(traceback.format_exception(error) if debug else ()) + f"error: {_printable(line)}"


def define_flags(options: type, values: flags.FlagValues = flags.FLAGS) -> None:
    """Register one flag for every field of `options`; the fields of a nested dataclass become flags beside them."""
    for entry, of_type, option in _fields(options):
        if option is None:
            define_flags(of_type, values)
        elif option.kind == CONFIG_FILE:
            from ml_collections import config_flags  # which few commands need

            config_flags.DEFINE_config_file(entry.name, None, option.help, flag_values=values)
        elif option.kind != POSITIONAL:
            _define(entry, of_type, option, values)


def parsed(options: type[Options], arguments: Sequence[str], values: flags.FlagValues = flags.FLAGS) -> Options:
    """The options as the flags give them; `arguments` are the words outside of flags. Raises `UserError`."""
    positional = [entry for entry, _, option in _fields(options) if option and option.kind == POSITIONAL]
    if arguments and not positional:
        # The word may be of a text whose quotation marks are missing.
        raise UserError("expected options only, found a word that belongs to none: write --name=value (see --help)")
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
            found[entry.name] = _entries(entry.name, value) if isinstance(value, list) else value
            if option.labelled:
                _label(entry.name, found[entry.name])
    return options(**found)


def _label(name: str, value: str | tuple[str, ...] | None) -> None:
    """Have messages call a path by the option that names it, however the path is spelled; `errors.label` says why."""
    entries = [value] if isinstance(value, str) else value or []
    for number, path in enumerate(entries, 1):
        label = f"--{name}" if len(entries) == 1 else f"--{name} entry {number} of {len(entries)}"
        if path not in ("", "-"):  # standard input
            local = patterns.expanded(path)
            for spelling in (path, Path(path), local, local.absolute(), os.path.realpath(local)):
                errors.label(spelling, label)


def _entries(name: str, values: list[str]) -> tuple[str, ...]:
    """What all occurrences of a flag name, each separated by commas unless it is the path of something with a comma."""
    found: list[str] = []
    for value in values:
        is_path = patterns.expanded(value).exists() or (patterns.is_pattern(value) and patterns.matching(value))
        whole = "," not in value or is_path
        try:
            found += [value] if whole else map(str.strip, next(csv.reader([value])))
        except csv.Error:  # it may quote the value
            problem = "entries separated by commas, found a line end (and no file of that name)"
            raise UserError(f"--{name}: expected {problem}: repeat the flag for each entry") from None
    return tuple(filter(None, found))


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
        flags.DEFINE_multi_string(entry.name, list(default or ()), option.help, **program)
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
    # absl prints its whole help text for a misspelt flag, and overrides of a config raise whatever they meet. Neither a
    # value nor what only looks like a flag is quoted: both may be the text of a note.
    try:
        return flags.FLAGS(list(argv))
    except flags.UnrecognizedFlagError as error:
        _fail(_unknown(error.flagname.removeprefix("no-")))
    except flags.Error as error:
        found = re.match(r"flag --([\w.]+)=|Missing value for flag -*([\w.]+)$", str(error))
        if not found:
            _fail(f"the options cannot be read ({type(error).__name__}): see --help")
        expected = _values_of(found[1]) if found[1] else "a value, found none"
        _fail(f"--{found[1] or found[2]}: expected {expected} (see --help)")
    except UserError as error:
        _fail(str(error))
    except Exception as error:
        if wrong := _wrong_config(argv):
            _fail(wrong)
        code, message = outcome(error)
        print(message, file=sys.stderr)
        sys.exit(code)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, list(flags.FLAGS), n=1, cutoff=0.5)
    hint = f"; the nearest is --{near[0]}" if near else ""
    if near or re.fullmatch(r"[a-z][a-z0-9_.]*", name):
        return f"--{name}: expected an option of this command, found another{hint} (see --help)"
    return "expected options of this command, found another; put a text that begins with a dash after -- (see --help)"


def _values_of(name: str) -> str:
    parser = flags.FLAGS[name].parser if name in flags.FLAGS else None
    if isinstance(parser, flags.EnumParser):
        return f"one of {', '.join(parser.enum_values)}"
    if isinstance(parser, flags.BooleanParser):
        return "true or false"
    return getattr(parser, "syntactic_help", "") or "another value"


def _wrong_config(argv: Sequence[str]) -> str | None:
    """What is wrong with `--config=FILE`, or with the first override that names no field of the config."""
    path = _path(argv)
    if not path:
        return None
    if not Path(path).is_file():
        return f"--config: expected a Python file such as configs/tiny_128.py, found none at {path}"
    try:
        config = flags.FLAGS["config"].parser.parse(path)
    except Exception:  # which parsing the flags has raised before
        return None
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


def _position(error: BaseException | None) -> str:
    """The file and line of our own code, or of a config, that was running when the exception was raised."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__ if error else None)]
    if isinstance(error, SyntaxError):  # of a config
        frames.append((error.filename or "", error.lineno))
    root = Path(__file__).parents[1]
    of_libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    of_project = str(root / "clinicalbert_jax"), str(root / "data_prep")
    ours = [f for f in frames if f[0].startswith(of_project) or not f[0].startswith((*of_libraries, "<"))]
    file, line = (ours or frames or [("an unknown file", 0)])[-1]
    return f"{file.removeprefix(f'{root}{os.sep}')}:{line}"


def _fail(message: str) -> NoReturn:
    print(f"error: {_printable(message)}", file=sys.stderr)
    sys.exit(EXIT_USER_ERROR)


def _printable(message: str) -> str:
    """One line without credentials, and without names of files of notes, whatever a path or URL in it holds."""
    line = errors.redacted(" ".join(errors.labelled(message).split("\n")))
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
