"""How many of a model's first three predictions fit in the ten sentences of `configs/demo_sentences.py`.

    python -m benchmarks.demo_sentences --model=demo/model

A word that fits is marked with '*'.
"""

from collections.abc import Sequence

from absl import flags

from clinicalbert_jax import commands, loading
from configs.demo_sentences import SENTENCES

MODEL = flags.DEFINE_string("model", None, "Run's directory, exported directory, or Hugging Face BERT.")

TOP_K = 3


def main(argv: Sequence[str]) -> None:
    """Print a line a sentence, and the share over all of them."""
    commands.refuse_arguments(argv)
    source = loading.find(commands.required(MODEL))
    from clinicalbert_jax.inference import Inference  # brings JAX: only once the flags are known to be right

    found = Inference(loading.load(source)).fill_mask([sentence for sentence, _ in SENTENCES], TOP_K)
    fit = 0
    for (sentence, accepted), (predictions,) in zip(SENTENCES, found, strict=True):
        words = [prediction.text for prediction in predictions]
        fit += sum(word.lower() in accepted for word in words)
        print(f"{sentence:<62}", ", ".join(word + "*" * (word.lower() in accepted) for word in words))
    asked = TOP_K * len(SENTENCES)
    print(f"{fit} of {asked} predictions fit ({fit / asked:.0%})")


if __name__ == "__main__":
    commands.run(main)
