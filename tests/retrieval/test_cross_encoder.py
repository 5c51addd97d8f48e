from __future__ import annotations

import builtins

import numpy as np
import pytest

from memkit import BM25, BadInput, CrossEncoder, MissingDependency
from memkit.testing.retriever import CORPUS, TWINS, RetrieverContract

pytest.importorskip("sentence_transformers")

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
VOCABULARY += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]


class Overlap:
    """Scores a pair by the words that both have: a model whose order is known."""

    def __init__(self) -> None:
        self.read = []

    def predict(self, pairs, *, batch_size, show_progress_bar):
        self.read.append(pairs)
        return np.array([len(set(q.split()) & set(text.split())) for q, text in pairs], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes a folder with a random cross-encoder of two layers."""
    import torch
    from sentence_transformers import CrossEncoder as Model
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    def make(labels=1):
        path = tmp_path_factory.mktemp("cross")
        vocabulary = path / "vocab.txt"
        vocabulary.write_text("\n".join(VOCABULARY))
        config = BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=128,
            num_labels=labels,
            initializer_range=1.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            BertForSequenceClassification(config).save_pretrained(path)
        BertTokenizerFast(vocab=str(vocabulary), model_max_length=128).save_pretrained(path)
        Model(str(path), device="cpu").save_pretrained(str(path))
        return str(path)

    return make


@pytest.fixture
def index():
    with BM25.build(CORPUS, engine="bm25s") as index:
        yield index


class TestContractWithAKnownOrder(RetrieverContract):
    @pytest.fixture
    def retriever(self, index):
        return CrossEncoder(index, Overlap())

    @pytest.fixture
    def wanted(self):
        return {"the capital of France": "paris", "a novel": "erewhon", TWINS: "twin/a"}


def test_a_model_scores_pairs_of_query_and_contents(folder, index):
    """Beside transformers' own output for each pair, one at a time."""
    import torch
    from transformers import BertForSequenceClassification, BertTokenizerFast

    path = folder()
    tokenizer = BertTokenizerFast.from_pretrained(path)
    model = BertForSequenceClassification.from_pretrained(path).eval()
    query = "capital of a novel on tea in the fog"
    expected = {}
    for hit in index.search([query], 100)[0]:
        batch = tokenizer(query, hit.passage.contents, return_tensors="pt", truncation=True)
        with torch.no_grad():
            expected[hit.passage.id] = torch.sigmoid(model(**batch).logits).item()
    reranked = CrossEncoder(index, path, device="cpu")
    (hits,) = reranked.search([query], 100)
    assert {hit.passage.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-5)
    assert [h.passage.id for h in hits] != [h.passage.id for h in index.search([query], 100)[0]]
    assert len({round(hit.score, 4) for hit in hits}) > 3
    many = [query, "tea", TWINS]
    assert reranked.search(many) == [reranked.search([one])[0] for one in many]
    twins = [hit for hit in reranked.search([TWINS])[0] if hit.passage.id.startswith("twin")]
    assert [hit.passage.id for hit in twins] == ["twin/a", "twin/b", "twin/c"]
    assert len({hit.score for hit in twins}) == 1


def test_only_what_is_proposed_is_read_and_equal_texts_once(index):
    model = Overlap()
    (hits,) = CrossEncoder(index, model, depth=3).search([TWINS], k=10)
    assert [hit.passage.id for hit in hits] == ["twin/a", "twin/b", "twin/c"]
    assert model.read == [[(TWINS, TWINS)]]
    assert CrossEncoder(index, model).search(["zeppelin"]) == [[]]


def test_refuses_a_model_with_more_outputs_or_none(folder, index, tmp_path):
    with pytest.raises(BadInput, match="has 3 outputs"):
        CrossEncoder(index, folder(labels=3))
    with pytest.raises(BadInput, match=r"cannot be loaded.*allowed: the folder or Hub id"):
        CrossEncoder(index, str(tmp_path / "nowhere"))


def test_refuses_scores_that_are_none(index):
    model = Overlap()
    model.predict = lambda pairs, **_: [float("nan")] * len(pairs)
    with pytest.raises(BadInput, match="one finite number each"):
        CrossEncoder(index, model).search(["tea"])


@pytest.mark.parametrize("options", [{"depth": 0}, {"batch_size": True}])
def test_refuses_parameters_that_make_no_sense(index, options):
    with pytest.raises(BadInput, match=next(iter(options))):
        CrossEncoder(index, Overlap(), **options)


def test_says_what_to_install(index, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest, **named):
        if name == "sentence_transformers":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependency, match=r"memkit\[dense\]"):
        CrossEncoder(index, "some/model")
