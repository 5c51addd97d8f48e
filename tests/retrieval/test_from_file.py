from __future__ import annotations

import json

import pytest

from memkit import BadInput, FromFile, Passage, Question
from memkit.retrieval.base import Retriever
from memkit.testing.retriever import RetrieverContract

CTXS = [
    {"id": "w1", "title": "Paris", "text": "Paris is in France.", "score": "80.5"},
    {"id": "w2", "title": "Rome", "text": "Rome is in Italy.", "score": "79.25"},
]
HITS = [("w1", "Paris", "Paris is in France.", 80.5), ("w2", "Rome", "Rome is in Italy.", 79.25)]


def write(tmp_path, rows, *, lines=False):
    path = tmp_path / "results.json"
    path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
    return path


def found(retriever, query, k=10):
    (hits,) = retriever.search([query], k)
    return [(hit.passage.id, hit.passage.title, hit.passage.text, hit.score) for hit in hits]


@pytest.mark.parametrize("lines", [False, True])
def test_reads_dpr_and_contriever_and_adaptive_retrieval(tmp_path, lines):
    contriever = [{**ctx, "score": float(ctx["score"]), "hasanswer": True} for ctx in CTXS]
    rows = [
        {"question": "Where is Paris?", "answers": ["France"], "ctxs": CTXS},
        {"id": 7, "question": "Where is Rome?", "ctxs": contriever[::-1]},
    ]
    retriever = FromFile(write(tmp_path, rows, lines=lines))
    assert found(retriever, "Where is Paris?") == HITS
    assert [hit[0] for hit in found(retriever, "Where is Rome?")] == ["w2", "w1"]
    assert found(retriever, "Where is Paris?", k=1) == HITS[:1]
    assert isinstance(retriever, Retriever)
    assert len(retriever) == 2
    assert {passage.id for passage in retriever.passages()} == {"w1", "w2"}


@pytest.mark.parametrize(
    "row",
    [
        {"contexts": [{"docid": c["id"], **c, "id": None} for c in CTXS]},
        {"context": CTXS},
        {"paragraphs": CTXS},
        {"ctxs": [{**c, "id": None, "docid": c["id"]} for c in CTXS]},
    ],
)
def test_reads_the_other_lists(tmp_path, row):
    retriever = FromFile(write(tmp_path, [{"question": "q", **row}], lines=True))
    assert found(retriever, "q") == HITS


def test_leaves_out_passages_whose_text_is_blank(tmp_path):
    context = [CTXS[0], {"title": "A page that could not be read", "text": " "}, CTXS[1]]
    assert found(FromFile(write(tmp_path, [{"question": "q", "context": context}])), "q") == HITS


def test_reads_popqa_by_id_with_its_contriever_passage(tmp_path):
    rows = {
        "12": {"question": "Who?", "contriever_passage": "She did.", "contriever_score": "1.5"},
        "13": {"question": "Where?", "contriever_passage": "", "contriever_score": ""},
    }
    retriever = FromFile(write(tmp_path, rows))
    ((id, title, text, score),) = found(retriever, "Who?")
    assert id.startswith("passage-")
    assert (title, text, score) == (None, "She did.", 1.5)
    assert found(retriever, "Where?") == []


def test_equal_passages_without_an_id_are_one_and_others_are_not(tmp_path):
    rows = [{"question": "q", "ctxs": [{"text": "a"}, {"text": "b"}, {"text": "a"}]}]
    assert [hit[2:] for hit in found(FromFile(write(tmp_path, rows)), "q")] == [
        ("a", 1),
        ("b", 0.5),
    ]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3, 2], [3, 2]),
        ([2, 3], [1, 0.5]),  # the file was put in another order than its scores say
        ([2, 2], [2, 2]),
        ([2, None], [1, 0.5]),
        ([float("nan"), 1], [1, 0.5]),
    ],
)
def test_the_order_of_the_file_stands_and_scores_agree_with_it(tmp_path, scores, expected):
    ctxs = [{**ctx, "score": score} for ctx, score in zip(CTXS, scores, strict=True)]
    hits = found(FromFile(write(tmp_path, [{"question": "q", "ctxs": ctxs}])), "q")
    assert [(hit[0], hit[3]) for hit in hits] == list(zip(["w1", "w2"], expected, strict=True))


def test_a_tie_against_the_order_of_ids_keeps_the_order_of_the_file(tmp_path):
    ctxs = [{**ctx, "score": 2} for ctx in CTXS[::-1]]
    hits = found(FromFile(write(tmp_path, [{"question": "q", "ctxs": ctxs}])), "q")
    assert [(hit[0], hit[3]) for hit in hits] == [("w2", 1.0), ("w1", 0.5)]


def test_texts_match_up_to_case_space_and_question_marks(tmp_path):
    retriever = FromFile(write(tmp_path, [{"question": "where is  paris", "ctxs": CTXS}]))
    assert found(retriever, "Where is Paris?") == HITS
    with pytest.raises(BadInput, match=r"no results for the question 'Where is Rome\?'.*missing="):
        retriever.search(["Where is Paris?", "Where is Rome?"])


def test_a_missing_question_may_give_nothing(tmp_path):
    path = write(tmp_path, [{"question": "q", "ctxs": CTXS}])
    assert found(FromFile(path, missing="empty"), "other") == []
    with pytest.raises(BadInput, match=r"missing is 'skip'; allowed: 'error', 'empty'"):
        FromFile(path, missing="skip")


class TestById:
    QUESTIONS = (Question("Where is Paris?", id="1"), Question("Where is Rome?", id="2"))

    def test_a_row_needs_no_text(self, tmp_path):
        rows = {"1": {"contexts": CTXS}, "9": {"contexts": CTXS[:1]}}
        path = write(tmp_path, rows)
        with pytest.raises(BadInput, match="row 1 has no question"):
            FromFile(path)
        retriever = FromFile(path, questions=self.QUESTIONS, missing="empty")
        assert found(retriever, "Where is Paris?") == HITS
        assert found(retriever, "Where is Rome?") == []
        assert len(retriever) == 1

    def test_refuses_another_text_under_the_id(self, tmp_path):
        path = write(tmp_path, [{"id": 1, "question": "Where is Oslo?", "ctxs": CTXS}])
        with pytest.raises(BadInput, match=r"'1' is 'Where is Paris\?'.*'Where is Oslo\?'"):
            FromFile(path, questions=self.QUESTIONS)

    def test_refuses_what_has_no_id(self, tmp_path):
        path = write(tmp_path, [{"question": "Where is Oslo?", "ctxs": CTXS}])
        with pytest.raises(BadInput, match="row 1 has no id"):
            FromFile(path, questions=self.QUESTIONS)
        path = write(tmp_path, [{"id": 1, "ctxs": CTXS}])
        with pytest.raises(BadInput, match="'Who' has no id"):
            FromFile(path, questions=[Question("Who")])
        path = write(tmp_path, [{"id": 1, "ctxs": CTXS}, {"id": "1", "ctxs": CTXS}])
        with pytest.raises(BadInput, match=r"row 2 has the id '1' of .*row 1"):
            FromFile(path, questions=self.QUESTIONS)


def test_of_two_rows_for_a_text_the_last_counts_and_it_is_said(tmp_path):
    twice = [{"question": q, "ctxs": CTXS} for q in ("Who?", "who", "Where?")]
    assert FromFile(write(tmp_path, twice)).ambiguous == ()
    twice[1]["ctxs"] = CTXS[1:]
    retriever = FromFile(write(tmp_path, twice))
    assert retriever.ambiguous == ("who",)
    assert (len(retriever), found(retriever, "Who?")) == (2, HITS[1:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("[]", "no rows"),
        ('{"question": "q", "ctxs": []}\n{"quest', "line 2 is not JSON"),
        ('[{"question": "q"}]', "row 1 has the fields question; allowed: rows with ctxs"),
        ("[1]", "row 1 is '1'"),
        ('[{"question": "q", "ctxs": [{"id": 3}]}]', "row 1 has the passage.*ids alone"),
        ('[{"question": "q", "ctxs": ["", "x"]}]', "row 1 has the passage ''"),
    ],
)
def test_refuses_another_form(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        FromFile(path)


def test_refuses_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.json' cannot be read"):
        FromFile(tmp_path / "nowhere.json")


def test_reads_the_real_popqa_with_passages(shared):
    retriever = FromFile(shared / "data" / "popqa" / "adapt_llm" / "popqa_test_test.json")
    ((hit,),) = retriever.search(["In what city was Aina Kusuda born?"])
    assert hit.score == 1.867528
    assert "Aina Kusuda" in hit.passage.text
    assert len(retriever) > 1400
    assert "What genre is The Congress?" in retriever.ambiguous
    other = FromFile(shared / "data" / "popqa" / "neuropath" / "popqa.json")
    assert len(list(other.passages())) > len(other)


class TestContract(RetrieverContract):
    @pytest.fixture
    def passages(self):
        return [Passage(c["id"], c["text"], c["title"]) for c in CTXS]

    @pytest.fixture
    def wanted(self):
        return {"Where is Paris?": "w1", "Where is Rome?": "w2"}

    @pytest.fixture
    def retriever(self, tmp_path):
        rows = [
            {"question": "Where is Paris?", "ctxs": CTXS},
            {"question": "Where is Rome?", "ctxs": CTXS[::-1]},
            {"question": "tea", "ctxs": CTXS},
        ]
        return FromFile(write(tmp_path, rows))
