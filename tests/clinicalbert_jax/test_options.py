"""Options are dataclass fields, and flags are made from them: names, types, defaults and help stand once."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
from absl import flags

from clinicalbert_jax import cli
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.options import POSITIONAL, option
from data_prep import command

pytestmark = pytest.mark.fast


@dataclass(kw_only=True)
class Inner:
    """Options beside those of the command."""

    ratio: float = option("A ratio.", 0.5, lowest=0.0)
    names: tuple[str, ...] = option("Names.", ())


@dataclass(kw_only=True)
class Outer:
    """The options of a made-up command."""

    texts: tuple[str, ...] = option("Texts.", (), kind=POSITIONAL)
    model: str = option("A model.")
    top_k: int = option("How many.", 5, lowest=1)
    casing: bool | None = option("Casing.", None)
    kind: str = option("A kind.", "a", choices=("a", "b"))
    inner: Inner


def parse(*arguments: str) -> Outer:
    values = flags.FlagValues()
    cli.define_flags(Outer, values)
    rest = values(["program", *arguments])
    return cli.parsed(Outer, rest[1:], values)


def test_defaults_and_values_arrive_with_their_types() -> None:
    assert parse("--model=m") == Outer(model="m", inner=Inner())
    given = parse("--model=m", "--top_k=7", "--nocasing", "--kind=b", "--ratio=0.25", "--names=x,y", "text")
    assert given == Outer(
        texts=("text",), model="m", top_k=7, casing=False, kind="b", inner=Inner(ratio=0.25, names=("x", "y"))
    )


def test_a_list_may_be_given_in_parts_and_hold_paths_with_commas(tmp_path: Path) -> None:
    def names(*values: object) -> tuple[str, ...]:
        return parse("--model=m", *(f"--names={value}" for value in values)).inner.names

    path = tmp_path / "a, b.csv"
    assert names("x,y", "z") == ("x", "y", "z")
    assert names(path) == tuple(map(str.strip, str(path).split(",")))
    path.touch()
    assert names(path, "x,y") == (str(path), "x", "y")
    assert names(f"{tmp_path}/a, *.csv") == (f"{tmp_path}/a, *.csv",)
    assert names('"s3://bucket/a,b.csv",c') == ("s3://bucket/a,b.csv", "c")
    assert names("") == ()


def test_a_required_option_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"--model: expected a value, found none"):
        parse()


@pytest.mark.parametrize("wrong", ["--top_k=0", "--kind=c", "--ratio=x", "--ratio=-1"])
def test_a_value_that_the_option_does_not_take_is_refused(wrong: str) -> None:
    with pytest.raises(flags.Error):
        parse("--model=m", wrong)


def test_words_that_belong_to_no_flag_are_refused_where_none_are_taken() -> None:
    with pytest.raises(UserError, match="expected options only, found a word that belongs to none"):
        cli.parsed(Inner, ["word"], flags.FlagValues())


def test_every_setting_of_a_preparation_is_a_flag() -> None:
    values = flags.FlagValues()
    cli.define_flags(command.Options, values)

    def check(of: type) -> int:
        count = 0
        for entry, of_type, its_option in cli._fields(of):
            if its_option is None:
                count += check(of_type)
            else:
                assert values[entry.name].help
                count += 1
        return count

    settings = sum(len(dataclasses.fields(part)) for part in (command.Options, *_parts(command.Options)))
    assert check(command.Options) == settings - len(_parts(command.Options))


def _parts(of: type) -> list[type]:
    parts = [of_type for _, of_type, its_option in cli._fields(of) if its_option is None]
    return parts + [nested for part in parts for nested in _parts(part)]
