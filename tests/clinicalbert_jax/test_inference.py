"""Using a model: what it says does not depend on how texts are batched, and equals what transformers says."""

import json
from pathlib import Path

import numpy as np
import pytest

from clinicalbert_jax import text_input
from clinicalbert_jax.config import ModelConfig
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.inference import Inference
from clinicalbert_jax.pretrained import huggingface, weight_names

WORDS = (  # noqa: SIM905
    "[PAD] [UNK] [CLS] [SEP] [MASK] the patient was admitted for pneumonia community - acquired "
    "chest pain . he she has fever and no cough ##s ##ed ##mon pneu ##ia"
).split()
CONFIG = ModelConfig(
    vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    max_position_embeddings=40,
)  # fmt: skip
TEXTS = [
    "the patient was admitted for [MASK] pneumonia.",
    "[MASK] has chest [MASK]",
    "he has no fever and no [MASK] and no cough and he was admitted for chest pain. he has no cough.",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    (tokenizer / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 40}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    generator = np.random.default_rng(0)
    tensors = {w.name: 0.3 * generator.standard_normal(w.shape, np.float32) for w in weight_names.table(CONFIG)}
    params, _ = weight_names.from_huggingface(CONFIG, tensors)
    path = tmp_path_factory.mktemp("model")
    huggingface.write_directory(path, CONFIG, params, tokenizer)
    return path


@pytest.fixture(scope="module")
def model(directory: Path) -> Inference:
    return Inference.load(directory)


@pytest.mark.fast
def test_fill_mask_gives_probabilities_in_order(model: Inference) -> None:
    results = model.fill_mask(TEXTS, top_k=len(WORDS))
    assert [len(masks) for masks in results] == [1, 2, 1]
    for predictions in (predictions for masks in results for predictions in masks):
        probabilities = [p.probability for p in predictions]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert {p.text for p in predictions} == set(WORDS)


@pytest.mark.fast
def test_results_do_not_depend_on_the_batch(model: Inference) -> None:
    many = [TEXTS[i % 3] for i in range(40)]
    together = model.fill_mask(many)
    alone = [model.fill_mask([text])[0] for text in TEXTS]
    for number, masks in enumerate(together):
        for ours, expected in zip(masks, alone[number % 3], strict=True):
            assert [p.text for p in ours] == [p.text for p in expected]
            np.testing.assert_allclose(
                [p.probability for p in ours], [p.probability for p in expected], rtol=1e-4, atol=1e-6
            )
    vectors, _ = model.embed(many)
    singles = np.concatenate([model.embed([text])[0] for text in TEXTS])
    np.testing.assert_allclose(vectors, singles[np.arange(40) % 3], atol=1e-5)


@pytest.mark.fast
def test_candidate_of_one_piece_has_its_own_probability(model: Inference) -> None:
    everything = {p.text: p.probability for p in model.fill_mask(TEXTS[:1], top_k=len(WORDS))[0][0]}
    for prediction in model.fill_mask(TEXTS[:1], candidates=["fever", "cough", "Pain"])[0][0]:
        assert prediction.probability == pytest.approx(everything[prediction.text.lower()], rel=1e-5)


@pytest.mark.fast
def test_candidate_of_several_pieces_is_scored_whole(model: Inference) -> None:
    text = "[MASK] was admitted for [MASK] pneumonia"
    scores = {p.text: p.probability for p in model.fill_mask([text], candidates=["community-acquired", "no"])[0][1]}
    before, after = "[MASK] was admitted for ", " pneumonia"

    def probability(filled: str, mask: int, word: str) -> float:
        predictions = model.fill_mask([before + filled + after], top_k=len(WORDS))[0][mask]
        return next(p.probability for p in predictions if p.text == word)

    expected = (
        probability("[MASK] [MASK] [MASK]", 1, "community")
        * probability("community [MASK] [MASK]", 1, "-")
        * probability("community - [MASK]", 1, "acquired")
    )
    assert scores["community-acquired"] == pytest.approx(expected, rel=1e-4)
    assert scores["no"] == pytest.approx(probability("[MASK]", 1, "no"), rel=1e-4)
    with pytest.raises(UserError, match=r"found \[UNK\] in number 2"):
        model.fill_mask([text], candidates=["no", "no zyxquarrel"])


@pytest.mark.fast
def test_texts_that_do_not_fit_are_refused_by_number(model: Inference) -> None:
    with pytest.raises(UserError, match="text 2: expected at least one"):
        model.fill_mask([TEXTS[0], "no mask here"])
    with pytest.raises(UserError, match=r"text 1: expected at most 40 tokens, found 53"):
        model.fill_mask(["[MASK] " + "pain " * 50])
    vectors, cut = model.embed(["pain " * 50, "pain"])
    assert cut == 1
    assert np.isfinite(vectors).all()


@pytest.mark.fast
def test_heads_that_are_absent_are_missed(directory: Path, tmp_path: Path) -> None:
    overrides, params, _ = huggingface.load_pretrained(directory)
    huggingface.write_directory(tmp_path, ModelConfig(**overrides), params, directory, parts=("encoder", "pooler"))
    encoder = Inference.load(tmp_path)
    assert encoder.embed(["pain"])[0].shape == (1, 16)
    with pytest.raises(UserError, match="mlm_head"):
        encoder.fill_mask(TEXTS)
    with pytest.raises(UserError, match="nsp_head"):
        encoder.next_sentence([("pain", "fever")])


def test_equals_transformers(model: Inference, directory: Path) -> None:
    torch = pytest.importorskip("torch")
    import transformers

    theirs = transformers.BertForPreTraining.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    pairs = [("the patient has fever.", "he was admitted."), ("chest pain", "no cough, no fever, no pain")]
    with torch.no_grad():
        inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
        hidden = theirs.bert(**inputs).last_hidden_state
        present = inputs["attention_mask"][:, :, None]
        means = (hidden * present).sum(1) / present.sum(1)
        log_p = theirs(**inputs).prediction_logits.log_softmax(-1)
        follows = theirs(**tokenizer(pairs, padding=True, return_tensors="pt")).seq_relationship_logits.softmax(-1)
    np.testing.assert_allclose(model.embed(TEXTS)[0], means.numpy(), atol=1e-5)
    np.testing.assert_allclose(model.embed(TEXTS, pooling="cls")[0], hidden[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(model.next_sentence(pairs), follows[:, 0].numpy(), atol=1e-5)
    place = int((inputs["input_ids"][0] == 4).nonzero()[0])
    for prediction in model.fill_mask(TEXTS, top_k=5)[0][0]:
        expected = float(log_p[0, place, WORDS.index(prediction.text)].exp())
        assert prediction.probability == pytest.approx(expected, abs=1e-5)


@pytest.mark.fast
def test_texts_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text('{"id": 7, "text": "one\\ntwo"}\n\n{"text": "three"}\n')
    assert text_input.read_records(str(file)) == (["7", "3"], ["one\ntwo", "three"])
    file.write_text('{"id": 1, "text": "SECRET"\n')
    with pytest.raises(UserError, match="on line 1") as caught:
        text_input.read_records(str(file))
    assert "SECRET" not in str(caught.value)
    (tmp_path / "lines.txt").write_text("one\n\ntwo\n")
    assert text_input.read([], str(tmp_path / "lines.txt")) == ["one", "two"]
    (tmp_path / "lines.txt").write_text("one\n\ntwo\x0cstill two\n")
    assert text_input.read_records(str(tmp_path / "lines.txt")) == (["1", "3"], ["one", "two\x0cstill two"])
    for arguments, name in (([], None), (["a"], "b"), ([], str(tmp_path / "absent"))):
        with pytest.raises(UserError):
            text_input.read(arguments, name)
