"""Does B follow A: `python -m clinicalbert_jax.next_sentence --model=DIR "First sentence." "Second sentence."`."""

import json
from dataclasses import dataclass

from clinicalbert_jax import cli, text_input
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import POSITIONAL, option
from clinicalbert_jax.pretrained import loading


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    texts: tuple[str, ...] = option("Two texts.", (), kind=POSITIONAL)
    model: str = option("A run, the directory of a Hugging Face BERT, or hf://NAME on its hub.")
    input: str | None = option(
        "File with one pair a line, separated by a tab ('-': standard input).", None, labelled=True
    )
    json: bool = option("Print one JSON object for each pair instead of a table.", False)
    show_text: bool = option("Print the texts as well.", False)


def main(options: Options) -> None:
    """Print for each pair the probability that its second text follows the first."""
    lines = text_input.read(options.texts, options.input)
    if options.input is None:
        if len(lines) != 2:
            raise UserError(f"expected two texts as arguments, found {len(lines)}")
        lines = ["\t".join(text.replace("\t", " ") for text in lines)]
    pairs = []
    for number, line in enumerate(lines, start=1):
        first, tab, second = line.partition("\t")
        if not tab or "\t" in second:
            raise UserError(f"--input: expected two texts with one tab between them on line {number}")
        pairs.append((first, second))
    source = loading.find(options.model)
    # These import JAX, which takes seconds: after the options are checked.
    from clinicalbert_jax.inference import Inference
    from clinicalbert_jax.training import xla

    xla.configure_inference()
    model = Inference(loading.load(source), show_progress=options.input is not None)
    for number, probability in enumerate(model.next_sentence(pairs).tolist(), start=1):
        first, second = pairs[number - 1]
        if options.json:
            shown = {"first": first, "second": second} if options.show_text else {"number": number}
            print(json.dumps(shown | {"probability": probability}, ensure_ascii=False))
        else:
            print(f"{probability:8.2%}  {f'{first} | {second}' if options.show_text else f'pair {number}'}")


if __name__ == "__main__":
    cli.run(main, Options)
