from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest

import memkit
from memkit import BadInput, MissingDependency, Question, figures, report, showcase
from memkit.benchmarks import load
from memkit.metrics import exact_match


@pytest.fixture(scope="module")
def found(small_world):
    """A demonstration on the small world, without dense retrieval."""

    def absent(world, path):
        raise MissingDependency("sentence-transformers is absent; pip install 'memkit[dense]'")

    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(showcase, "_dense", absent)
        made = showcase.measure(small_world, 40, announce=steps.append)
    assert len(steps) == 5
    return made


def test_has_a_row_for_every_arm_and_says_what_is_missing(found):
    assert [row.name for row in found.report.rows] == [
        "closed book",
        "BM25",
        "gold passage",
        "random passage",
        "router",
        "random at the same rate",
        "oracle",
    ]
    assert found.report.questions == 40
    assert len(found.report.deciles) == 10
    assert "pip install" in found.missing["dense"]
    rows = {row.name: row.overall for row in found.report.rows}
    assert rows["closed book"].retrieval_rate == 0
    assert rows["BM25"].retrieval_rate == rows["gold passage"].retrieval_rate == 1
    assert rows["gold passage"].tokens > rows["closed book"].tokens > 0
    assert rows["BM25"].milliseconds > 0


def test_asks_with_dense_where_it_can(small_world, monkeypatch):
    class First:
        def search(self, queries, k=10):
            from memkit import Hit, Passage

            return [[Hit(Passage("x", "text"), 1.0, 1)] for _ in queries]

    monkeypatch.setattr(showcase, "_dense", lambda world, path: First())
    made = showcase.measure(small_world, 20)
    assert made.missing == {}
    assert made.report.row("dense").overall.retrieval_rate == 1


def test_is_plain_data(found):
    data = json.loads(json.dumps(found.to_dict()))
    assert data["report"]["rows"][0]["name"] == "closed book"
    assert data["about"]["world"].startswith("small: ")


def test_works_a_question_of_a_new_subject(found):
    caption, answer = found.worked[-1]
    assert "never mentioned" in caption
    assert answer.question.popularity is None
    assert "by corpus" in answer.decision.reason


def test_refuses_too_few_questions(small_world):
    with pytest.raises(BadInput, match="questions is 5; allowed: at least 20"):
        showcase.measure(small_world, 5)


def test_sample_takes_one_from_each_stretch():
    questions = [Question(f"Q{n}?", popularity=(n * 37) % 100, id=str(n)) for n in range(100)]
    questions.append(Question("unknown?"))
    chosen = showcase.sample(questions, 10, seed=0)
    assert [int(q.popularity // 10) for q in chosen] == list(range(10))
    assert (
        chosen == showcase.sample(questions[::-1], 10, seed=0) != showcase.sample(questions, 10, 1)
    )
    everything = showcase.sample(questions, 1000, seed=0)
    assert [q.popularity for q in everything] == list(range(100))


def test_random_passages_are_not_the_questions_own(small_world):
    import random

    world = load("miniworld", small_world)
    for question in world.questions:
        passage = showcase._random_passage(random.Random(0), world.passages, question)
        assert passage.id not in question.gold


def test_table_is_aligned_with_the_report(found):
    header, *rows = report.table(found.report)
    assert header == ["", "all", *map(str, range(1, 11)), "ret.", "tok.", "ms"]
    assert [row[0] for row in rows] == [
        row.name.replace(" at the", ",") for row in found.report.rows
    ]
    assert {len(row) for row in rows} == {len(header)}
    assert rows[1][12] == "100"


def test_details_say_what_the_report_says(found):
    lines = report.details(found.report)
    assert sum(line.startswith("against ") for line in lines) == len(found.report.rows) - 1
    assert any(line.startswith("signal: AUROC ") for line in lines)
    assert any(line.startswith("threshold over all: ") for line in lines)
    for row in found.report.rows:
        (line,) = [line for line in lines if line.startswith(f"{row.name}: EM ")]
        assert f"EM {100 * row.overall.accuracy:.1f}" in line
        assert f"tokens p50 {row.overall.tokens_p50:.0f}" in line


def test_models_by_size(found):
    rows = report.scale({"b": found.report, "a": found.report}, {"a": 10, "b": 2_000})
    assert [row[:2] for row in rows[1:]] == [["a", "10"], ["b", "2,000"]]
    closed = found.report.row("closed book")
    assert rows[1][2] == f"{100 * closed.overall.accuracy:.0f}"
    assert rows[1][3:5] == [f"{100 * closed.deciles[n].accuracy:.0f}" for n in (0, -1)]
    assert {len(row) for row in rows} == {len(rows[0])}
    with pytest.raises(BadInput, match="'b' has no number of parameters"):
        report.scale({"b": found.report}, {"a": 10})


def test_page_needs_nothing_else(found, tmp_path):
    page = report.html(
        found.report,
        title="Weights <or> text?",
        about=found.about,
        worked=found.worked,
        missing=found.missing,
    )
    assert "Weights &lt;or&gt; text?" in page
    for outside in ("<script", "<link", "@import", "url(http", "src=", 'href="http'):
        assert outside not in page
    assert found.worked[-1][1].question.text in page
    assert "pip install" in page
    drawn = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    texts = [
        {e.text for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("}text")}
        for svg in drawn
    ]
    assert {"router", "oracle", "right answers, %", "closed book"} <= texts[0]
    assert {"retrieved for, % of questions", "router", "random, same rate"} <= texts[1]
    assert "correlation with ln popularity" in texts[2]
    assert any(str(text).startswith("birthplace (") for text in texts[2])
    assert {"router", "oracle", "right answers, %"} <= texts[3]
    assert figures.INK not in page
    for line in report.details(found.report):
        assert line.split(":")[0] in page
    report.write(page, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_retrieved_text_is_escaped_in_the_page(found):
    import dataclasses

    caption, answer = found.worked[-1]
    evil = dataclasses.replace(answer, text="<script>alert(1)</script>")
    page = report.html(found.report, title="x", worked=[(caption, evil)])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_equal_reports_make_equal_plots(found):
    for draw in (figures.by_decile, figures.by_rate, figures.by_relation, figures.by_relative):
        assert draw(found.report).svg() == draw(found.report).svg()


def test_models_side_by_side_are_ordered_by_size(found):
    reports, sizes = {"b": found.report, "a": found.report}, {"a": 638_592, "b": 2_609_280}
    for draw in (figures.by_size, figures.by_threshold):
        drawn = draw(reports, sizes).svg()
        assert drawn == draw(dict(reversed(reports.items())), sizes).svg()
        assert 0 < drawn.index(">0.64 M weights<") < drawn.index(">2.6 M weights<")


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    report.write("old", path)
    with pytest.raises(UnicodeEncodeError):
        report.write("new \ud800", path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_shipped_world_shows_what_the_paper_saw():
    qa = memkit.demo()
    world = load("miniworld")
    ranked = showcase.sample(world.questions, 100, seed=5)
    rare, popular = ranked[:20], ranked[-5:]
    answers = qa.ask([*rare, *popular])
    sources = [answer.decision.source for answer in answers]
    assert sources[:20].count("retrieval") >= 18
    assert sources[20:].count("weights") >= 3
    right = [exact_match(a.text, a.question.answers) for a in answers]
    assert sum(right) >= 16
    new = load("miniworld", split="new", limit=10).questions
    told = qa.ask([question.text for question in new])
    assert all(answer.decision.source == "retrieval" for answer in told)
    assert sum(exact_match(a.text, q.answers) for a, q in zip(told, new, strict=True)) >= 6
