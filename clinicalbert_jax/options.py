"""The options of a command, as fields of a dataclass."""

from dataclasses import MISSING, field
from typing import Any, NamedTuple

FLAG, CONFIG_FILE, POSITIONAL = "flag", "config file", "positional"


class Option(NamedTuple):
    """What a command's help says of a field, and which values it takes; see `cli.define_flags`."""

    help: str
    kind: str = FLAG
    choices: tuple[str, ...] = ()
    lowest: float | None = None


def option(help: str, default: Any = MISSING, **details: Any) -> Any:
    """A dataclass field that a command offers as a flag: name, type, default and help stand once. No default: required.

    `details` are the other fields of `Option`.
    """
    return field(default=default, metadata={"option": Option(help, **details)})
