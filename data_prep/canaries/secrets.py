"""The candidates of an audit: invented secrets, of which a fair coin plants each or leaves it out.

Everything is drawn from a private key. Half of the candidates are for one place, the others for 2, 4, ... 64.

Shape legend: C candidates, U draws.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from clinicalbert_jax.data import counter_rng

NUMBER, NAME = "number", "name"
FORMS = (NUMBER, NAME)
REPEATS = (1, 2, 4, 8, 16, 32, 64)
SUFFIX = "_canaries"  # of the name of a dataset that holds some
NUM_DIGITS = 9
MIN_CANDIDATES = 28  # two for each number of repeats, on average, on each side of the coin
CONDITIONS = (
    *("pneumonia", "diabetes", "hypertension", "asthma", "anemia", "cirrhosis", "sepsis", "pancreatitis"),
    *("seizures", "depression", "stroke", "gout", "lymphoma", "hepatitis", "dementia", "arthritis"),
)
_FIRST, _VOWELS, _LAST = "bcdfghjklmnprstvwz", "aeiou", ("l", "n", "r", "sk", "th", "x", "m", "nd")
_REPEATS_OF, _COIN, _SECRET, _OTHER = range(4)  # what a draw is for


@dataclass(frozen=True)
class Candidate:
    """A secret, its number of places, and how its coin fell. `condition` is '' in the form of numbers.

    `num_places`: how many of its places were found in notes; a candidate with fewer than `repeats` is not audited.
    """

    secret: str = field(repr=False)
    condition: str = field(repr=False)
    repeats: int
    is_planted: bool
    num_places: int = 0

    @property
    def parts(self) -> tuple[str, str, str]:
        """The sentence: what stands before the part whose probability is measured, that part, and what follows it."""
        if self.condition:
            return f"{self.secret} has a history of", self.condition, "."
        return "Patient number is", self.secret, "."


def key_of(salt: bytes, name: str, version: str, seed: int) -> int:
    """The private key of a dataset's canaries."""
    named = f"{name} {version} {seed}".encode()
    key = hashlib.blake2b(salt, digest_size=32).digest()
    return int.from_bytes(hashlib.blake2b(named, digest_size=8, key=key, person=b"canaries").digest(), "big")


def draw(count: int, form: str, key: int) -> tuple[Candidate, ...]:
    """The candidates, all different; which are planted is independent of everything else about them."""
    secrets = _different(count, form, key, _SECRET)
    coins_C = counter_rng.uniform(counter_rng.fold(key, _COIN), count) < 0.5
    conditions_C = counter_rng.uniform(counter_rng.fold(key, _REPEATS_OF), count) * len(CONDITIONS)
    return tuple(
        Candidate(
            secret,
            CONDITIONS[int(conditions_C[number])] if form == NAME else "",
            1 if number % 2 == 0 else REPEATS[1 + number // 2 % (len(REPEATS) - 1)],
            bool(coins_C[number]),
        )
        for number, secret in enumerate(secrets)
    )


def alternatives(count: int, form: str, key: int, besides: Sequence[str]) -> list[str]:
    """Other secrets of the form, drawn as those of candidates are, none of them among `besides`."""
    known = set(besides)
    return [one for one in _different(count + len(known), form, key, _OTHER) if one not in known][:count]


def _different(count: int, form: str, key: int, purpose: int) -> list[str]:
    found: dict[str, None] = {}
    number = 0
    while len(found) < count:
        draws_U = counter_rng.uniform(counter_rng.fold(key, purpose, number), 16).tolist()
        number += 1
        if form == NUMBER:
            # Digits by themselves, so that every secret has as many tokens.
            found[" ".join(str(int(10 * draw)) for draw in draws_U[:NUM_DIGITS])] = None
        else:
            letters = zip((_FIRST, _VOWELS, _LAST) * 3, draws_U, strict=False)
            found["".join(of[int(len(of) * draw)] for of, draw in letters).capitalize()] = None
    return list(found)
