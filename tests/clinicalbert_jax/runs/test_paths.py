"""A run's path is read literally or refused before anything is written; an unreadable checkpoint is not whole."""

import string
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clinicalbert_jax.data import checksummed_json
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.runs import workdir
from clinicalbert_jax.runs.checkpoint import Checkpoints, recover
from clinicalbert_jax.runs.state import State
from tests.clinicalbert_jax.conftest import small_config

PRINTABLE = "".join(character for character in string.printable if character != "/")
REFUSED = "*?[\\"
ZERO = jnp.int32(0)
STATE = State(ZERO, ZERO, ZERO, ZERO, params={"kernel": jnp.arange(6.0)}, opt_state={"mean": jnp.arange(4.0)})
ABSTRACT = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), STATE)


def saved_and_restored(run: Path) -> State:
    (run / "tokenizer").mkdir(parents=True)
    with Checkpoints(run, small_config().train) as checkpoints:
        checkpoints.save(STATE, 3)
        checkpoints.wait()
        return checkpoints.restore(ABSTRACT, 3)


names = st.text(st.sampled_from(PRINTABLE + "é中"), min_size=1, max_size=12).filter(lambda name: name.strip(".") != "")


@settings(max_examples=12, derandomize=True)
@example("".join(character for character in PRINTABLE if character not in REFUSED))
@example("gs:")
@example("[x]")
@example("x\\y")
@example("\udcff")
@given(names)
def test_a_path_is_read_literally_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    base = tmp_path_factory.mktemp("base")
    run = base / name / "run"
    try:
        workdir.check_path(run)
    except UserError as error:
        assert "\n" not in str(error)
        assert set(name) & set(REFUSED) or "gs:" in name or not name.isprintable()
        return
    np.testing.assert_array_equal(saved_and_restored(run).params["kernel"], np.arange(6.0))
    assert [path.name for path in base.iterdir()] == [name], "nothing is written elsewhere"
    assert recover(run) == (3, [])


@pytest.mark.parametrize("character", PRINTABLE)
def test_no_other_printable_character_is_refused(character: str, tmp_path: Path) -> None:
    refused = character in REFUSED
    try:
        workdir.check_path(tmp_path / f"a{character}b")
        assert not refused
    except UserError:
        assert refused


@pytest.mark.parametrize("path", ["/gs/bucket/run", "/s3", "/hf/x", "/logs:/gs:/x", "x/runs_gs:"])
def test_a_path_that_is_taken_for_a_bucket_is_refused(path: str) -> None:
    with pytest.raises(UserError, match="--workdir: expected a path without"):
        workdir.check_path(Path(path))


def test_a_link_into_such_a_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "[x]").mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / "[x]")
    with pytest.raises(UserError, match="--workdir: expected a path without"):
        workdir.check_path(tmp_path / "plain")


# orbax closes its event loop while tensorstore still reports the other arrays that it cannot find.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_checkpoint_that_cannot_be_read_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint of step 3 could not be written .*params, optimizer, progress"):
        saved_and_restored(tmp_path / "[x]")
    assert recover(tmp_path / "[x]")[0] is None


@pytest.mark.fast
def test_no_input_and_no_directory_of_something_else_becomes_a_run(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    workdir.check_free(run, [model])  # neither is there
    model.mkdir()
    (tmp_path / "link").symlink_to(model)
    for path in (model, tmp_path / "link"):
        with pytest.raises(UserError, match="expected a directory of its own, found an input"):
            workdir.check_free(path, ["", model])
    (model / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"another config\.json"):
        workdir.check_free(model, [])
    run.mkdir()
    checksummed_json.write(run / "config.json", {"model": {}})
    workdir.check_free(run, [model])


@pytest.mark.fast
def test_the_config_of_a_model_is_not_taken_for_a_damaged_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"expected a run in .*, found a config\.json that is not as it was written"):
        workdir.read_config(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="restore it from a copy"):
        workdir.read_config(tmp_path)
