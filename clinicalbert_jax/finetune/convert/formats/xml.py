"""XML read safely: no entities of its own, nothing from elsewhere, and the line of each element."""

from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.archives import Member
from clinicalbert_jax.finetune.convert.ledger import Ledger


class Parsed:
    """The root element of a file, and the line that each element begins on."""

    def __init__(self, root: Element, lines: dict[Element, int]) -> None:
        self.root = root
        self._lines = lines

    def line(self, element: Element) -> int:
        """Where an element begins, from 1."""
        return self._lines.get(element, 1)


def parse(member: Member, ledger: Ledger, data: bytes | None = None) -> Parsed | None:
    """The XML of a file, or of `data` instead of its content.

    A file that is not well formed is a bad record, with the line where it breaks: None where these are skipped.
    """
    parser = _Parser()
    try:
        parser.feed(member.data if data is None else data)
        return Parsed(parser.close(), parser.lines)
    except ElementTree.ParseError as error:  # its message may quote a name
        ledger["documents"].found()
        problem = "expected well-formed XML, found otherwise: probably truncated, or another kind of file"
        ledger.bad("documents", member.where, error.position[0], problem)
        return None
    except DefusedXmlException as error:
        raise UserError(
            f"{member.where}: expected XML without entities of its own, found some ({type(error).__name__}): do not "
            "use what you do not trust"
        ) from None
    except (LookupError, ValueError):
        raise UserError(f"{member.where}, line 1: expected a known text encoding, found another") from None


def write(root: Element, doctype: str = "") -> str:
    """An element as a file."""
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}{ElementTree.tostring(root, "unicode")}\n'


class _Parser(DefusedXMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Element, int] = {}

    def _start(self, *arguments: Any) -> Element:
        element = super()._start(*arguments)
        self.lines[element] = self.parser.CurrentLineNumber
        return element
