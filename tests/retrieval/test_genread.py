from __future__ import annotations

import pytest

from memkit import QA, BadInput, GenRead, Passage
from memkit.lm.generation import Completion
from memkit.retrieval.base import Retriever
from memkit.testing.models import tiny_lm
from memkit.testing.retriever import RetrieverContract

QUERIES = ["Who wrote Erewhon?", "What is the capital of Peru?", "One, two or three?"]


class Scripted:
    """Writes what it is told to; keeps what it was asked."""

    def __init__(self, *texts):
        self.texts, self.asked = list(texts), []

    def complete(self, prompts, max_new_tokens, stop, batch_size):
        self.asked.append((list(prompts), max_new_tokens))
        return [Completion(self.texts.pop(0), -1.5, (1, 2), 3) for _ in prompts]


def test_asks_with_the_prompt_of_mallen_et_al():
    lm = Scripted(" Samuel Butler wrote Erewhon.\nMore.")
    ((hit,),) = GenRead(lm).search(["Who wrote\n Erewhon?"])
    prompt = (
        "Generate a background document from Wikipedia to answer the given question. "
        "Who wrote Erewhon?"
    )
    assert lm.asked == [([prompt], 150)]
    assert (hit.passage.text, hit.score, hit.rank) == ("Samuel Butler wrote Erewhon.", -1.5, 1)


@pytest.mark.parametrize("text", ["", "\n\n", "  \n"])
def test_a_model_that_writes_nothing_finds_nothing(text):
    assert GenRead(Scripted(text)).search(["Who?"]) == [[]]


def test_line_breaks_in_front_do_not_count():
    ((hit,),) = GenRead(Scripted("\n\nA line.\n\nAnother.")).search(["Who?"])
    assert hit.passage.text == "A line."


def test_equal_queries_are_written_for_once():
    lm = Scripted("one", "two")
    found = GenRead(lm).search(["a", "b", "a"])
    assert [hits[0].passage.text for hits in found] == ["one", "two", "one"]
    assert [len(prompts) for prompts, _ in lm.asked] == [2]
    assert len({hits[0].passage.id for hits in found}) == 2


def test_refuses_a_prompt_without_its_place_holder():
    with pytest.raises(BadInput, match=r"GenRead\.prompt is 'Write\.'.*'{question}'"):
        GenRead(Scripted(), prompt="Write.")


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("gpt2")


@pytest.fixture
def genread(lm):
    return GenRead(lm, prompt="{question}", max_new_tokens=8)


def test_writes_what_the_model_would_and_the_same_each_time(lm, genread):
    first = genread.search(QUERIES)
    assert isinstance(genread, Retriever)
    assert genread.search(QUERIES) == first
    for query, (hit,) in zip(QUERIES, first, strict=True):
        (text,) = lm.generate([query], max_new_tokens=8)
        assert hit.passage.text == text.strip()


def test_the_model_reads_what_it_wrote_as_data_in_the_prompt_of_every_arm(lm, genread):
    ((hit,),) = genread.search(QUERIES[:1])
    written, bare = QA(lm, genread, max_new_tokens=4), QA(lm, max_new_tokens=4)
    answer = written.ask(QUERIES[0])
    passage = " ".join(answer.hits[0].passage.text.split())
    assert answer.hits == (hit,)
    assert answer.prompt.text == f"{passage}\n\n{bare.ask(QUERIES[0]).prompt.text}"


def test_a_query_longer_than_the_window_is_refused(genread):
    with pytest.raises(BadInput, match="window"):
        genread.search(["Erewhon " * 80])


class TestContract(RetrieverContract):
    @pytest.fixture
    def passages(self, lm, genread):
        texts = lm.generate([*QUERIES, "tea"], max_new_tokens=8)
        ids = [hits[0].passage.id for hits in genread.search([*QUERIES, "tea"])]
        return [Passage(id, text.strip()) for id, text in zip(ids, texts, strict=True)]

    @pytest.fixture
    def wanted(self, passages):
        return {query: p.id for query, p in zip(QUERIES, passages, strict=False)}

    @pytest.fixture
    def retriever(self, genread):
        return genread
