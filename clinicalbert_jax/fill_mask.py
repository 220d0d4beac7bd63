"""What may stand at [MASK]: `python -m clinicalbert_jax.fill_mask --model=DIR "admitted for [MASK] pneumonia."`."""

import json
import sys
from collections.abc import Sequence

from absl import flags

from clinicalbert_jax import commands, loading, texts

MODEL = flags.DEFINE_string("model", None, "Run's directory, exported directory, or Hugging Face BERT.")
INPUT = flags.DEFINE_string("input", None, "File with one text a line ('-': standard input), instead of arguments.")
TOP_K = flags.DEFINE_integer("top_k", 5, "How many predictions to give for each [MASK].", lower_bound=1)
CANDIDATES = flags.DEFINE_list(
    "candidates", [], "Score these words or phrases, comma-separated, instead of the vocabulary."
)
JSON = flags.DEFINE_bool("json", False, "Print one JSON object a text instead of a table.")


def main(argv: Sequence[str]) -> None:
    """Print the likeliest words for each [MASK] of each text, with their probabilities."""
    given = texts.read(argv[1:], INPUT.value)
    source = loading.find(commands.required(MODEL))
    from clinicalbert_jax.inference import Inference  # brings JAX: only once the flags are known to be right

    model = Inference(loading.load(source), show_progress=INPUT.value is not None)
    for text, masks in zip(given, model.fill_mask(given, TOP_K.value, CANDIDATES.value), strict=True):
        if JSON.value:
            document = [[{"text": word, "probability": p} for word, p in predictions] for predictions in masks]
            print(json.dumps({"text": text, "masks": document}, ensure_ascii=False))
            continue
        print(text)
        for number, predictions in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"  [MASK] {number}")
            for word, probability in predictions:
                percent = f"{probability:8.2%}" if probability >= 1e-4 else f"{100 * probability:7.0e}%"
                print(f"  {percent}  {word}")
    sys.stdout.flush()


if __name__ == "__main__":
    commands.run(main)
