"""The options of a command, as fields of a dataclass."""

from dataclasses import MISSING, field
from typing import Any, NamedTuple

FLAG, CONFIG_FILE, POSITIONAL = "flag", "config file", "positional"


class Option(NamedTuple):
    """A field's help text, and the values that it takes; see `cli.define_flags`."""

    help: str
    kind: str = FLAG
    choices: tuple[str, ...] = ()
    lowest: float | None = None
    labelled: bool = False  # a path whose name may be that of a patient: see `errors`


def option(help: str, default: Any = MISSING, **details: Any) -> Any:
    """A dataclass field that is a flag of a command: name, type, default and help in one place. No default: required.

    `details` are the other fields of `Option`.
    """
    return field(default=default, metadata={"option": Option(help, **details)})
