"""Tables hold what the records say, in every format."""

from __future__ import annotations

import csv
import dataclasses
import io
import shutil
import subprocess

import numpy as np
import pytest

from memkit.compare import results, run
from memkit.compare.beside import beside
from memkit.compare.formats import csv_text, latex, markdown
from memkit.compare.groups import KEPT, groups
from memkit.compare.log import Log
from memkit.compare.records import CellRecord
from memkit.compare.spec import ROLES
from memkit.compare.tables import Table, points, tables
from memkit.errors import BadInput


def by_hand(found, memory, count, schedule, role):
    return [
        record.metrics["exact_match"]
        for outcome in found.outcomes
        for record in outcome.answers
        if (outcome.cell.memory, outcome.cell.count, outcome.cell.schedule, record.role)
        == (memory, count, schedule, role)
    ]


def test_a_score_is_the_mean_of_the_records(ran):
    (group,) = groups(ran)
    assert group.roles() == list(ROLES)
    for line in group.lines:
        for role in group.roles():
            values = by_hand(ran, line.memory, line.count, line.schedule, role)
            found = group.score(line, role)
            assert found.mean == pytest.approx(np.mean(values))
            assert found.rows == len(values)
            assert len(found.seeds) == 2
    assert 0 < group.score(group.lines[1], "question").mean < 1  # the trivial case is another


def test_locality_kept_is_against_the_model_as_it_is(ran):
    (group,) = groups(ran)
    plain = group.baseline()
    assert plain.memory == "plain"
    assert group.score(plain, KEPT).mean == 1.0
    routed = next(line for line in group.lines if line.memory == "routed")
    said = {(s, r.id): r.scored for s, r in plain.answers("locality")}
    same = [said[s, r.id] == r.scored for s, r in routed.answers("locality")]
    assert group.score(routed, KEPT).mean == pytest.approx(np.mean(same))
    assert not all(same)


def test_pairs_are_of_equal_counts_and_no_open_one_is_called_better(ran):
    (group,) = groups(ran)
    found = group.pairs("question")
    names = {(pair.a, pair.b) for pair in found}
    assert ("plain", "bm25") in names
    assert ("ft, 2", "ft, 2 in turn") in names
    assert ("ft, 1", "ft, 2") not in names
    assert {pair.verdict for pair in found} == {"open", "b"}
    table = next(table for table in tables(ran) if table.title.endswith("every pair, question"))
    for pair, row in zip(found, table.rows, strict=True):
        inside = pair.difference.low <= 0 <= pair.difference.high
        assert (row[-1] == "open") == (pair.verdict == "open")
        assert not (inside and row[-1] != "open")


def test_an_interval_that_leaves_out_0_does_not_look_as_if_it_did_not(ran):
    (group,) = groups(ran)
    pair = group.pairs("question")[0]
    for ends, told in [
        ((0.002, 0.0004, 0.005), "+0.2 [+0.04, +0.5]"),
        ((-0.1, -0.2, -0.0), "-10.0 [-20.0, +0.0]"),
        ((0.0, -0.00001, 0.5), "+0.0 [-0.001, +50.0]"),
    ]:
        difference = dataclasses.replace(pair.difference, value=ends[0], low=ends[1], high=ends[2])
        assert points(dataclasses.replace(pair, difference=difference)) == told


def test_conflicts_add_up(ran):
    table = next(t for t in tables(ran) if "who answers" in t.title)
    asked = len(by_hand(ran, "plain", 0, "", "asked"))
    assert asked > 0
    for row in table.rows:
        assert sum(map(int, row[1:])) == asked


def test_what_failed_and_what_was_left_out_is_said(wanted, tmp_path):
    wanted["memories"] = {"plain": {}, "def": {"retriever": "definitions"}}
    found = run(wanted, tmp_path)
    cell = found.outcomes[1].cell
    with Log(tmp_path) as log:
        log.append([CellRecord(cell.id, "failed", 1.0, "ValueError: on purpose", "Traceback")])
    made = tables(results(tmp_path))
    assert made[-1].title == "Failed"
    assert made[-1].rows == ((cell.name, "ValueError: on purpose"),)
    assert [row[0] for row in made[0].rows] == ["plain"]


def test_another_metric_is_that_of_all_tables(ran):
    made = tables(ran, "token_f1")
    assert made[0].title == "tiny on small: token F1 by free generation, %"
    with pytest.raises(BadInput, match="'exact_match', 'contains', 'token_f1'"):
        tables(ran, "bleu")


ODD = Table("50 % & more", ("a_b", "x|y"), (("{c}", "1 < 2"), ("d\ne", "#3")), "~note^")


def test_markdown_keeps_its_columns():
    lines = markdown([ODD]).splitlines()
    assert lines[0] == "## 50 % & more"
    assert lines[2:4] == ["| a_b | x\\|y |", "|---|---:|"]
    assert lines[5] == "| d e | #3 |"
    assert lines[-1] == "~note^"


def test_csv_comes_back():
    rows = list(csv.reader(io.StringIO(csv_text([ODD]))))
    assert rows == [["table", "a_b", "x|y"], [ODD.title, "{c}", "1 < 2"], [ODD.title, "d\ne", "#3"]]


def test_latex_escapes_what_it_must():
    text = latex([ODD])
    assert r"\caption{50 \% \& more}" in text
    assert r"a\_b & x\textbar{}y \\" in text
    assert r"\{c\} & 1 \textless{} 2 \\" in text
    assert r"\textasciitilde{}note\textasciicircum{}" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


def test_markdown_takes_no_name_for_html():
    text = markdown([Table("t", ("m", "p"), (("<b>", "<0.001"),))])
    assert "| &lt;b> | <0.001 |" in text


def test_latex_can_be_set_whatever_a_memory_is_called(tmp_path):
    names = ["[1]", "* star", " [2]", "\\end{x}", "$_^~#%&{}", "a|b <c>", ""]
    rows = tuple((name, "1") for name in names)
    text = latex([Table("[t]", ("[m]", "n"), rows, "note"), ODD])
    assert "{}[1] & 1" in text
    pdflatex = shutil.which("pdflatex")
    if pdflatex is None:
        pytest.skip("needs pdflatex (Debian: apt-get install texlive-latex-recommended)")
    page = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
    )
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_two_runs_side_by_side(ran):
    other = dataclasses.replace(ran, folder=ran.folder.with_name("other"))
    made = beside(ran, other)
    assert made[0].title == "tiny on small: small and other, question"
    assert {row[-1] for row in made[0].rows} == {"open"}
    assert {row[4] for row in made[0].rows} == {"+0.0 [+0.0, +0.0]"}
    renamed = [  # the same questions under the ids of another sample
        dataclasses.replace(
            o, answers=tuple(dataclasses.replace(r, id=f"more/{r.id}") for r in o.answers)
        )
        for o in ran.outcomes
    ]
    assert beside(ran, dataclasses.replace(ran, outcomes=tuple(renamed)))[0].rows == made[0].rows
    swapped = [
        dataclasses.replace(o, cell=dataclasses.replace(o.cell, model="else")) for o in ran.outcomes
    ]
    with pytest.raises(BadInput, match="in common"):
        beside(ran, dataclasses.replace(ran, outcomes=tuple(swapped)))


def test_two_runs_of_other_rows_have_their_means_and_no_difference(ran):
    later = [
        dataclasses.replace(o, cell=dataclasses.replace(o.cell, seed=o.cell.seed + 9))
        for o in ran.outcomes
    ]
    (group,) = groups(ran)
    first = beside(ran, dataclasses.replace(ran, outcomes=tuple(later)))[0]
    for line, row in zip(group.lines, first.rows, strict=True):
        mean = f"{100 * group.score(line, 'question').mean:.1f}"
        assert row == (line.label, "0", mean, mean, "-", "-", "other rows")
