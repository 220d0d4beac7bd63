"""What may stand at [MASK]: `python -m clinicalbert_jax.fill_mask --model=DIR "admitted for [MASK] pneumonia."`."""

import json
import sys
from dataclasses import dataclass

from clinicalbert_jax import cli, text_input
from clinicalbert_jax.options import POSITIONAL, option
from clinicalbert_jax.pretrained import loading


@dataclass(kw_only=True)
class Options:
    """The options of the command."""

    texts: tuple[str, ...] = option("Texts with one [MASK] or more.", (), kind=POSITIONAL)
    model: str = option("A run, the directory of a Hugging Face BERT, or hf://NAME on its hub.")
    input: str | None = option(
        "File with one text a line ('-': standard input), instead of arguments.", None, labelled=True
    )
    top_k: int = option("How many predictions to give for each [MASK].", 5, lowest=1)
    candidates: tuple[str, ...] = option("Score these words or phrases, comma-separated, and no others.", ())
    json: bool = option("Print one JSON object for each text instead of a table.", False)
    show_text: bool = option("Print the texts as well.", False)


def main(options: Options) -> None:
    """Print the likeliest words for each [MASK] of each text, with their probabilities."""
    texts = text_input.read(options.texts, options.input)
    source = loading.find(options.model)
    # These import JAX, which takes seconds: after the options are checked.
    from clinicalbert_jax.inference import Inference
    from clinicalbert_jax.training import xla

    xla.configure_inference()
    model = Inference(loading.load(source), show_progress=options.input is not None)
    found = model.fill_mask(texts, options.top_k, options.candidates)
    for number, (text, masks) in enumerate(zip(texts, found, strict=True), start=1):
        if options.json:
            document = [[{"text": word, "probability": p} for word, p in predictions] for predictions in masks]
            shown = {"text": text} if options.show_text else {"number": number}
            print(json.dumps(shown | {"masks": document}, ensure_ascii=False))
            continue
        print(text if options.show_text else f"text {number}")
        for which, predictions in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"  [MASK] {which}")
            for word, probability in predictions:
                percent = f"{probability:8.2%}" if probability >= 1e-4 else f"{100 * probability:7.0e}%"
                print(f"  {percent}  {word}")
    sys.stdout.flush()


if __name__ == "__main__":
    cli.run(main, Options)
