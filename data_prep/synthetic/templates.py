"""The wording of the synthetic notes: a template for each of MIMIC-III's categories, in `wording/NAME.txt`.

A plain line is one sentence, with its alternatives between bars (one is chosen; it may be empty), and follows the
sentence above in the same paragraph. A line that begins with `=` stands by itself. A blank line stays blank. A line
`<NAME>` stands for the sentences under that name in `wording/phrases.txt`; one is chosen each time, so that a fact is
expressed in many words. Names in braces are facts of the patient and of the note, filled in by `write`.
"""

from pathlib import Path

_WORDING = Path(__file__).parent / "wording"


def read(name: str) -> str:
    """The template of that name."""
    return (_WORDING / f"{name}.txt").read_text("utf-8")


def _phrases() -> dict[str, str]:
    blocks = [block.strip().split("\n") for block in read("phrases").split("\n\n")]
    phrases = {name: " | ".join(sentences) for name, *sentences in blocks}
    return phrases | {"<ANY>": " | ".join(phrases.values())}


PHRASES = _phrases()
