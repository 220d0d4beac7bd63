"""Does B follow A: `python -m clinicalbert_jax.next_sentence --model=DIR "First sentence." "Second sentence."`."""

import json
from collections.abc import Sequence

from absl import flags

from clinicalbert_jax import commands, loading, texts
from clinicalbert_jax.errors import UserError

MODEL = flags.DEFINE_string("model", None, "Run's directory, exported directory, or Hugging Face BERT.")
INPUT = flags.DEFINE_string("input", None, "File with a pair a line, a tab between ('-': standard input).")
JSON = flags.DEFINE_bool("json", False, "Print one JSON object a pair instead of a table.")


def main(argv: Sequence[str]) -> None:
    """Print for each pair the probability that its second text follows the first."""
    given = texts.read(argv[1:], INPUT.value)
    if INPUT.value is None:
        if len(given) != 2:
            raise UserError(f"expected two texts as arguments, found {len(given)}")
        given = ["\t".join(text.replace("\t", " ") for text in given)]
    pairs = []
    for number, line in enumerate(given, start=1):
        first, tab, second = line.partition("\t")
        if not tab or "\t" in second:
            raise UserError(f"--input: expected two texts with one tab between on line {number}, found otherwise")
        pairs.append((first, second))
    source = loading.find(commands.required(MODEL))
    from clinicalbert_jax.inference import Inference  # brings JAX: only once the flags are known to be right

    model = Inference(loading.load(source), show_progress=INPUT.value is not None)
    for (first, second), probability in zip(pairs, model.next_sentence(pairs).tolist(), strict=True):
        if JSON.value:
            print(json.dumps({"first": first, "second": second, "probability": probability}, ensure_ascii=False))
        else:
            print(f"{probability:8.2%}  {first} | {second}")


if __name__ == "__main__":
    commands.run(main)
