from __future__ import annotations

import json

import numpy as np
import pytest

from memkit.errors import BadInput
from memkit.routing.table import Popularity, PopularityTable
from memkit.types import Passage, Question


def ask(table, text, **known):
    return table.lookup(Question(text, **known))


@pytest.fixture
def table():
    return PopularityTable(
        {"Samuel Butler": 300, "Erewhon": 42, "Erewhon Revisited": 7, "Paris": 9000, "Zero": 0},
        {"Butler": "Samuel Butler", "Paris": "Paris Hilton", "Kepler": "Nobody's title"},
    )


@pytest.mark.parametrize(
    ("text", "subject", "expected"),
    [
        ("Who wrote Erewhon?", None, Popularity(42, "title", "Erewhon")),
        ("who wrote  EREWHON  REVISITED?", None, Popularity(7, "title", "Erewhon Revisited")),
        ("Where was Butler born?", None, Popularity(300, "alias", "Samuel Butler")),
        ("Where is Paris?", None, Popularity(9000, "title", "Paris")),  # it is a title itself
        ("What is Zero?", None, Popularity(0, "title", "Zero")),  # known, and zero
        ("Who is Kepler?", None, Popularity(None, "unknown", "Kepler")),  # its title has no views
        ("Who wrote Erewhonian?", None, Popularity(None, "unknown", None)),  # whole words only
        ("Where was he born?", "samuel  butler", Popularity(300, "title", "samuel  butler")),
        ("Who wrote Erewhon?", "Erewhon II", Popularity(None, "unknown", "Erewhon II")),
    ],
)
def test_chain_without_a_corpus(table, text, subject, expected):
    assert ask(table, text, subject=subject) == expected


def test_popularity_of_the_question_comes_first(table):
    own = ask(table, "Who wrote Erewhon?", subject="Erewhon", popularity=5)
    assert own == Popularity(5, "question", "Erewhon")


def test_shared_names_stand_for_the_best_known():
    aliases = {"JS": "John Small", "js": "Jane Smith"}
    table = PopularityTable({"Apple": 5, "apple": 9, "John Small": 1, "Jane Smith": 8}, aliases)
    assert ask(table, "What is an APPLE?").value == 9
    assert ask(table, "Who is JS?").value == 8
    questions = [
        Question("one?", subject="X", popularity=3),
        Question("two?", subject="X", popularity=4),
        Question("three?", subject="X"),
        Question("four?", popularity=9),
    ]
    assert PopularityTable.from_questions(questions).views == {"X": 4}
    with pytest.raises(BadInput, match="no question has a subject and a popularity"):
        PopularityTable.from_questions(questions[2:])


# --- counts in a corpus ---------------------------------------------------------------------------


def corpus(mentions):
    """Passages in which each name is mentioned the given number of times, once in a passage."""
    texts = [name for name, times in mentions.items() for _ in range(times)]
    return [Passage(str(i), f"This is about {name} and {name}.") for i, name in enumerate(texts)]


def test_counts_are_passages_and_aliases_count_for_their_title(table):
    passages = [
        *corpus({"Erewhon": 3, "Butler": 2, "Samuel Butler": 2}),
        Passage("t", "A book.", title="Utopia"),
        Passage("both", "Butler is Samuel Butler."),
    ]
    counted = table.with_corpus(passages, names=["Nowhere"])
    assert counted.counts == {"Erewhon": 3, "Samuel Butler": 5, "Utopia": 1}
    assert table.counts == {}  # the first is as it was
    assert ask(counted, "Who wrote Utopia?").source == "corpus"
    assert ask(counted, "Who wrote Erewhon?") == Popularity(42, "title", "Erewhon")
    assert ask(counted, "Who wrote Nowhere?") == Popularity(None, "unknown", None)


def test_counts_are_put_on_the_scale_of_page_views():
    rng = np.random.default_rng(0)
    views = {f"entity{i}": float(v) for i, v in enumerate(rng.integers(1, 10_000, 60))}
    ranks = {name: rank for rank, name in enumerate(sorted(views, key=views.__getitem__))}
    mentions = {name: 1 + rank // 3 for name, rank in ranks.items()}  # 20 different counts
    mentions |= {f"new{count}": count for count in range(1, 26)}
    table = PopularityTable(views).with_corpus(corpus(mentions), names=mentions)
    found = [ask(table, "Who?", subject=f"new{count}").value for count in range(1, 26)]
    # First the trivial case: a count itself is no page view.
    assert max(table.counts.values()) < np.median(list(views.values()))
    assert found == sorted(found)
    assert found[20:] == [max(views.values())] * 5  # more often than any known entity
    ascending = sorted(views.values())
    for count in range(1, 21):  # three known entities with this count, by hand
        percentile = (3 * (count - 1) + 1.5) / 60
        place = percentile * 59
        low = int(place)
        expected = ascending[low] + (place - low) * (ascending[low + 1] - ascending[low])
        assert found[count - 1] == pytest.approx(expected)


def test_a_foreign_corpus_is_refused(table):
    with pytest.raises(BadInput, match="none of 5 titles is mentioned in 1 passages"):
        table.with_corpus([Passage("1", "Nothing here.", title="Else")])


# --- files ----------------------------------------------------------------------------------------

POPQA = (
    "id\tsubj\tprop\ts_aliases\ts_wiki_title\ts_pop\tquestion\n"
    '1\tErewhon\tauthor\t"[""Over the Range"", ""Range""]"\tErewhon\t42\tWho?\n'
    "2\tErewhon\tgenre\t[]\tErewhon\t40\tWhat?\n"
    '3\tUtopia\tauthor\t"[""Range""]"\tUtopia\t900\tWho?\n'
    "4\tHard Times\tauthor\t[]\tHard Times\t\tWho?\n"
)


def test_reads_popqa(tmp_path):
    (tmp_path / "popQA.tsv").write_text(POPQA, encoding="utf-8-sig")
    table = PopularityTable.from_file(tmp_path / "popQA.tsv")
    assert table.views == {"Erewhon": 42, "Utopia": 900}  # the larger; an empty cell is unknown
    assert table.aliases == {"Over the Range": "Erewhon", "Range": "Utopia"}


def test_reads_csv_and_jsonl_alike(tmp_path):
    (tmp_path / "t.csv").write_text('views,title\n42,Erewhon\n"7.5","A, B"\n')
    rows = [{"title": "Erewhon", "views": 42, "aliases": ["E"]}, {"title": "A, B", "views": "7.5"}]
    (tmp_path / "t.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    read = [PopularityTable.from_file(tmp_path / name) for name in ("t.csv", "t.jsonl")]
    assert read[0].views == read[1].views == {"Erewhon": 42, "A, B": 7.5}
    assert read[1].aliases == {"E": "Erewhon"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "name,views\nA,1\nB,many\n", r"t\.csv', line 3.*'B' are 'many'.*at least 0"),
        ("t.tsv", "name\tviews\nA\t-4\n", r"line 2.*'A' are '-4'"),
        ("t.csv", "name,views\nA,nan\n", r"line 2.*'A' are 'nan'"),
        ("t.csv", "name,views\nA,inf\n", r"line 2.*'A' are 'inf'"),
        ("t.csv", "name,views\n ,3\n", "line 2: a name is ' '"),
        ("t.csv", "name,views\nA\nB,x\n", "line 3.*'x'"),  # a short row is unknown
        ("t.csv", "name,aliases,views\nA,B,3\n", "line 2: the aliases are 'B'.*JSON list"),
        ("t.csv", "A,1\nB,2\n", "line 2: the columns are 'A', '1'.*name, title.*header"),
        ("t.csv", "name,count\nB,2\n", "'name', 'count'.*popularity, views, s_pop"),
        ("t.csv", "name,views\n", "no row with page views"),
        ("t.csv", "", "no row with page views"),
        ("t.jsonl", '{"name": "A", "views": true}\n', "line 1.*'A' are True"),
        ("t.jsonl", '{"name": "A", "views": 1}\n{"name"\n', "line 2.*no JSON object"),
        ("t.jsonl", "[1]\n", "line 1.*no JSON object"),
        ("t.xlsx", "", r"ends in '\.xlsx'.*\.csv, \.tsv, \.jsonl"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=message):
        PopularityTable.from_file(tmp_path / name)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes("name,views\nJosé,3\n".encode("latin-1"))
    (tmp_path / "folder.csv").mkdir()
    for name, message in (("absent", "No such file"), ("latin", "utf-8"), ("folder", "directory")):
        with pytest.raises(BadInput, match=rf"{name}\.csv' cannot be read \(.*{message}"):
            PopularityTable.from_file(tmp_path / f"{name}.csv")


@pytest.mark.parametrize("views", [-1, float("nan"), "many", None])
def test_a_mapping_is_checked_too(views):
    with pytest.raises(BadInput, match=f"'Erewhon' are {views!r}"):
        PopularityTable({"Utopia": 1, "Erewhon": views})


@pytest.mark.parametrize("pair", [("", "Erewhon"), ("E", " "), ("E", None)])
def test_aliases_are_checked_too(pair):
    with pytest.raises(BadInput, match="aliases has"):
        PopularityTable({"Erewhon": 1}, dict([pair]))


def test_a_table_keeps_its_own_copy():
    views = {"Erewhon": "42"}
    table = PopularityTable(views)
    views["Erewhon"] = 1
    assert ask(table, "Who wrote Erewhon?").value == 42  # text that is a number is one
