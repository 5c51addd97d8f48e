from __future__ import annotations

import json

import pytest

from memkit import BadInput, Fact
from memkit.benchmarks import load
from memkit.benchmarks.cases import RippleQuery, RippleTest
from memkit.benchmarks.records import Record
from memkit.benchmarks.rippleedits import parsed, popularity


def query(prompt, *targets, **more):
    answers = [{"value": names[0], "aliases": list(names[1:])} for names in targets]
    kind = {"query_type": "regular", "target_ids": ["Q9"], "phrase": None}
    return {"prompt": prompt, "answers": answers, **kind, **more}


def row(**changes):
    """One edit with a test of each criterion, as upstream writes it."""
    mother = query("The name of the mother of Ann Lee is", ("Eve Lee",))
    alias = query(
        "The name of the country of citizenship of A. Lee is", ("Peru", "PE"), target_ids=["Q419"]
    )
    capital = query(
        "The name of the capital city of the country of citizenship of Ann Lee is",
        ("Lima", "City of Kings"),
        query_type="two_hop",
        target_ids="Q419",
        second_hop_target_ids=["Q2868"],
    )
    known = query("The name of the capital city of Peru is", ("Lima", "City of Kings"))
    siblings = query("The names of the siblings of Ann Lee are", ("Bo Lee",), ("Cy Lee",))
    values = {
        "example_type": "popular",
        "edit": {
            "prompt": "The name of the country of citizenship of Ann Lee is Peru.",
            "subject_id": "Q1",
            "relation": "COUNTRY_OF_CITIZENSHIP",
            "target_id": "Q419",
            "original_fact": {
                "prompt": "The name of the country of citizenship of Ann Lee is Chile.",
                "subject_id": "Q1",
                "relation": "COUNTRY_OF_CITIZENSHIP",
                "target_id": "Q298",
            },
        },
        "Relation_Specificity": [
            {"test_queries": [mother], "test_condition": "OR", "condition_queries": [mother]}
        ],
        "Logical_Generalization": [
            {"test_queries": [siblings], "test_condition": "AND", "condition_queries": []}
        ],
        "Subject_Aliasing": [
            {"test_queries": [alias], "test_condition": "OR", "condition_queries": [alias]}
        ],
        "Compositionality_I": [
            {"test_queries": [capital], "test_condition": "OR", "condition_queries": [known]}
        ],
        "Compositionality_II": [],
        "Forgetfulness": [
            {"test_queries": [mother, capital], "test_condition": "OR", "condition_queries": []}
        ],
    }
    return values | changes


def test_reads_edit_and_tests(as_file):
    bench = load("rippleedits", as_file([row()], "popular.json"))
    (case,) = bench.cases
    assert case.fact == Fact(
        subject="Ann Lee",
        prompt="The name of the country of citizenship of {} is",
        target="Peru",
        relation="COUNTRY_OF_CITIZENSHIP",
        previous="Chile",
        id="1",
    )
    assert (case.names, case.subset, case.popularity) == (("Peru", "PE"), "popular", None)
    by_criterion = {test.criterion: test for test in case.tests}
    assert len(case.tests) == 5
    assert by_criterion["Logical_Generalization"] == RippleTest(
        "Logical_Generalization",
        (RippleQuery("The names of the siblings of Ann Lee are", (("Bo Lee",), ("Cy Lee",))),),
        "AND",
    )
    two_hop = by_criterion["Compositionality_I"]
    assert two_hop.queries[0].targets == (("Lima", "City of Kings"),)
    assert two_hop.conditions[0].prompt == "The name of the capital city of Peru is"
    assert len(by_criterion["Preservation"].queries) == 2
    (fact,) = bench.facts
    assert fact.portability == (
        ("The name of the capital city of the country of citizenship of Ann Lee is", "Lima"),
        ("The name of the country of citizenship of A. Lee is", "Peru"),
    )
    mother = ("The name of the mother of Ann Lee is", "Eve Lee")
    assert fact.locality == (mother, mother)
    assert bench.name == "rippleedits-popular"


def test_reads_both_spellings_and_recent(as_file):
    """The README's spelling; `recent` has no original fact, older files call it previous_fact."""
    one = row()
    one["Relation_Specifity"] = one.pop("Relation_Specificity")
    del one["edit"]["original_fact"]
    two = row()
    two["edit"]["previous_fact"] = two["edit"].pop("original_fact")
    first, second = load("rippleedits", as_file([one, two], "recent.json")).cases
    assert first.fact.previous is None
    assert second.fact.previous == "Chile"
    for case in (first, second):
        assert "Relation_Specificity" in {test.criterion for test in case.tests}


def test_joins_popularity(tmp_path):
    (tmp_path / "data" / "benchmark").mkdir(parents=True)
    (tmp_path / "data" / "stats").mkdir()
    rows = [row(), row(edit={**row()["edit"], "subject_id": "Q2"})]
    (tmp_path / "data" / "benchmark" / "random.json").write_text(json.dumps(rows))
    stats = {"subject_id": {"0": "Q1", "1": "Q2"}, "subject_views": {"0": 12.0, "1": None}}
    path = tmp_path / "data" / "stats" / "random_stats.json"
    path.write_text(json.dumps(stats))
    bench = load("rippleedits", tmp_path, "random")
    assert [case.popularity for case in bench.cases] == [12.0, None]
    assert [case.popularity for case in load("rippleedits", tmp_path, "random", 1).cases] == [12.0]
    stats["subject_id"]["1"] = "Q7"
    path.write_text(json.dumps(stats))
    message = r"random_stats.json', row 1: subject_id is 'Q7', and .*row 2, edit is about 'Q2'"
    with pytest.raises(BadInput, match=message):
        load("rippleedits", tmp_path, "random")
    path.write_text("[1]")
    with pytest.raises(BadInput, match="has no columns subject_id and subject_views"):
        load("rippleedits", tmp_path, "random")


def test_a_test_whose_target_has_no_name_is_left_out(as_file):
    nameless = query("The name of the mother of Ann Lee is", ("",))
    tests = [
        {"test_queries": [nameless], "test_condition": "OR", "condition_queries": []},
        {"test_queries": [], "test_condition": "OR", "condition_queries": []},
    ]
    with pytest.warns(UserWarning, match=r"2 tests of popular\.json are left out"):
        bench = load("rippleedits", as_file([row(Relation_Specificity=tests)], "popular.json"))
    criteria = {test.criterion for test in bench.cases[0].tests}
    assert "Relation_Specificity" not in criteria
    assert "Preservation" in criteria


def test_a_subject_with_the_wordings_own_word_in_it(as_file):
    edit = {**row()["edit"], "relation": "AUTHOR"}
    edit["prompt"] = "The name of the author of Life is a Dream is Lope."
    edit["original_fact"] = {
        **edit["original_fact"],
        "prompt": "The name of the author of Life is a Dream is Pedro.",
    }
    asked = query("The name of the editor of Life is a Dream is", ("Eve",))
    test = {"test_queries": [asked], "test_condition": "OR", "condition_queries": []}
    without = {name: value for name, value in edit.items() if name != "original_fact"}
    for known in ({"edit": edit}, {"edit": without, "Relation_Specificity": [test]}):
        fact = load("rippleedits", as_file([row(**known)], "popular.json")).cases[0].fact
        assert (fact.subject, fact.target) == ("Life is a Dream", "Lope")
    assert fact.previous is None
    # nothing else names it: the shortest subject
    sentence = "The name of the author of Life is a Dream is Lope."
    assert parsed(sentence, "AUTHOR")[1:] == ("Life", "a Dream is Lope")
    title = "The name of the author of Ann is Who is it."
    assert parsed(title, "AUTHOR", others=["The editor of Ann is"])[1:] == ("Ann", "Who is it")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edit": {}}, r"row 1, edit has no 'relation'"),
        (
            {"edit": {**row()["edit"], "prompt": "Ann Lee is from Peru."}},
            r"row 1, edit: 'Ann Lee is from Peru.' is no statement of COUNTRY_OF_CITIZENSHIP; .*"
            r"'The name of the country of citizenship of SUBJECT is TARGET.'",
        ),
        (
            {
                "Subject_Aliasing": [
                    {
                        "test_queries": [query("Ann is", ("Peru",))],
                        "test_condition": "XOR",
                    }
                ]
            },
            r"row 1, Subject_Aliasing: test_condition is 'XOR'; allowed: 'OR' or 'AND'",
        ),
        ({"Forgetfulness": [3]}, r"row 1: Forgetfulness holds '3'; allowed: an object"),
    ],
)
def test_refuses_a_broken_row(as_file, changes, message):
    with pytest.raises(BadInput, match=message):
        load("rippleedits", as_file([row(**changes)], "popular.json"))


def test_says_what_it_needs(tmp_path, as_file):
    with pytest.raises(BadInput, match="path None; allowed: a checkout"):
        load("rippleedits")
    with pytest.raises(BadInput, match="split is 'new' for rippleedits; allowed: 'popular'"):
        load("rippleedits", tmp_path, "new")
    with pytest.raises(BadInput, match=r"popular.json' does not exist"):
        load("rippleedits", tmp_path, "popular")
    with pytest.raises(BadInput, match="a file has no splits"):
        load("rippleedits", as_file([row()]), "popular")


@pytest.mark.parametrize(
    ("sentence", "relation", "expected"),
    [
        (
            "2041 BC follows 2042 BC.",
            "FOLLOWS",
            ("{} follows", "2041 BC", "2042 BC"),
        ),
        (
            "The gender of This Is Me is male.",
            "SEX_OR_GENDER",
            ("The gender of {} is", "This Is Me", "male"),
        ),
        (
            "The name of the sports team which Pablo Mills is a member of is Rotherham F.C..",
            "MEMBER_OF_SPORTS_TEAM",
            (
                "The name of the sports team which {} is a member of is",
                "Pablo Mills",
                "Rotherham F.C.",
            ),
        ),
    ],
)
def test_parses_a_sentence(sentence, relation, expected):
    assert parsed(sentence, relation) == expected


@pytest.mark.parametrize("name", ["popular", "random"])
def test_parses_the_real_sentences(shared, name):
    folder = shared / "data" / "rippleedits"
    sentences = json.loads((folder / "benchmark" / f"{name}_prompts.json").read_text("utf-8"))
    stats = json.loads((folder / "stats" / f"{name}_stats.json").read_text("utf-8"))
    for place, sentence in enumerate(sentences):
        prompt, subject, target = parsed(sentence, stats["relation"][str(place)])
        assert f"{prompt.replace('{}', subject)} {target}." == sentence
    edits = [
        Record(f"row {place}", str(place), {"subject_id": stats["subject_id"][str(place)]})
        for place in range(len(sentences))
    ]
    views = popularity(folder / "benchmark", name, edits)
    assert len(views) == len(sentences)
    assert sum(view is not None for view in views) >= {"popular": 40, "random": 42}[name]
