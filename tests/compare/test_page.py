"""The report in a browser: no error, no network, and the numbers of the records."""

from __future__ import annotations

import dataclasses
import html as markup
import json
import re
import shutil
import subprocess

import pytest

from memkit.compare.groups import groups
from memkit.compare.page import html
from memkit.compare.tables import tables

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WATCH = """<script>
window.problems = [];
addEventListener("error", event => problems.push(String(event.message)));
</script></head>"""
USE = """<script>
const out = {problems, tables: {}};
for (const table of document.querySelectorAll("section.table table"))
  out.tables[table.dataset.title] =
    [...table.rows].map(row => [...row.cells].map(cell => cell.textContent));
const first = document.querySelector("section.table table"), head = first.tHead.rows[0].cells[1];
head.firstElementChild.click();
out.sorted = [...first.tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent));
head.firstElementChild.click();
out.again = [...first.tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent));
head.firstElementChild.click();
out.given = [...first.tBodies[0].rows].map(row => row.cells[0].textContent);
const set = (id, value, event) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event(event));
};
const count = () => parseInt(document.getElementById("found").textContent);
out.all = count();
set("role", "asked", "change");
out.asked = count();
set("which", "differ", "change");
out.differ = count();
set("which", "", "change");
set("find", "no such words", "input");
out.none = count();
set("find", "", "input");
const row = document.querySelector("details.row");
row.open = true;
setTimeout(() => {
  out.answers = [...row.querySelectorAll(".answer")].map(box => box.textContent);
  out.wide = document.documentElement.scrollWidth <= innerWidth;
  const node = document.createElement("pre");
  node.id = "outcome";
  node.textContent = JSON.stringify(out);
  document.body.append(node);
}, 100);
</script></body>"""


@pytest.fixture(scope="module")
def page(ran):
    return html([ran])


def test_the_page_asks_for_nothing_from_elsewhere(page):
    assert not re.search(r'(src|href)\s*=\s*"(?!data:,|#)', page.split("<svg")[0])
    assert "@import" not in page
    assert "fetch(" not in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*https?:", page)


def test_text_of_a_record_cannot_end_the_data(ran, page):
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert "<" not in page.split('id="data">')[1].split("</script>")[0]
    (group,) = data["groups"]
    answers = sum(a is not None for row in group["rows"] for a in row["a"])
    assert answers == sum(len(outcome.answers) for outcome in ran.done) == data["all"]


def test_what_can_be_opened_is_what_was_recorded(ran, page):
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    texts, (told,), (group,) = data["texts"], data["groups"], groups(ran)
    assert told["lines"] == [line.label for line in group.lines]
    shown, kept = [], []
    for row in told["rows"]:
        for label, a in zip(told["lines"], row["a"], strict=True):
            right, scored, raw, source, reason, prompt, hits, edits, ms = a
            words = [texts[n] for n in (row["q"], scored, raw, source, reason, prompt)]
            found = [(texts[id], score, texts[text]) for id, score, text in hits]
            rest = (row["seed"], row["role"], right, ms, found, [texts[n] for n in edits])
            shown.append((label, *words, *rest))
    for line in group.lines:
        for seed, record in line.answers():
            answer, decision = record.answer, record.answer.decision
            words = [answer.question.text, record.scored, answer.text, decision.source]
            words += [decision.reason, answer.prompt.text]
            found = [(h.passage.id, round(h.score, 3), h.passage.text) for h in answer.hits]
            ms = round(1000 * answer.seconds, 1)
            rest = (seed, record.role, int(record.right), ms, found, list(answer.edits))
            kept.append((line.label, *words, *rest))
    assert any(row[-2] for row in kept)
    assert any(row[-1] for row in kept)
    assert sorted(map(repr, shown)) == sorted(map(repr, kept))


def test_a_score_that_is_no_number_does_not_break_the_page(ran):
    outcome = next(o for o in ran.outcomes if o.cell.memory == "bm25")
    record = next(r for r in outcome.answers if r.answer.hits)
    hit = dataclasses.replace(record.answer.hits[0], score=float("-inf"))
    answer = dataclasses.replace(record.answer, hits=(hit,))
    odd = dataclasses.replace(
        outcome, answers=(dataclasses.replace(record, answer=answer), *outcome.answers[1:])
    )
    made = html([dataclasses.replace(ran, outcomes=(odd,))])
    text = made.split('id="data">')[1].split("</script>")[0]
    json.loads(text, parse_constant=lambda name: pytest.fail(name))


def test_a_memory_may_be_called_anything(ran):
    cells = [dataclasses.replace(o, cell=dataclasses.replace(o.cell, memory=r"_$\frac$ <b>"))
             for o in ran.outcomes if o.cell.memory == "bm25"]  # fmt: skip
    made = html([dataclasses.replace(ran, outcomes=tuple(cells))])
    legends = re.findall(r"<text[^>]*>\u200b([^<]*)</text>", made)
    assert legends
    assert set(legends) == {"_$\\frac$ &lt;b&gt;"}


def test_a_run_of_which_nothing_is_done_has_a_page_too(ran):
    outcomes = tuple(dataclasses.replace(outcome, end=None) for outcome in ran.outcomes)
    made = html([dataclasses.replace(ran, outcomes=outcomes)])
    assert "0 of 16, 0 failed" in made


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(ran, page, tmp_path, width):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    file = tmp_path / "report.html"
    watched = page.replace("</head>", WATCH, 1).replace("</body>", USE, 1)
    file.write_text(watched, encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    command += ["--virtual-time-budget=10000", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr
    found = json.loads(
        markup.unescape(re.search(r'id="outcome">(.*?)</pre>', done.stdout, re.S)[1])
    )
    assert found["problems"] == []
    for table in tables(ran):
        assert found["tables"][table.title] == [list(table.header), *map(list, table.rows)]
    assert found["sorted"] == sorted(found["sorted"], reverse=True)
    assert found["again"] == sorted(found["again"])
    (group,) = groups(ran)
    assert found["given"] == [line.label for line in group.lines]
    assert found["all"] == len(list(group.lines[0].answers()))
    assert found["asked"] == len(list(group.lines[0].answers("asked")))
    right = {}
    for line in group.lines:
        for seed, record in line.answers("asked"):
            right.setdefault((seed, record.id), []).append(record.right)
    assert found["differ"] == sum(0 < sum(r) < len(r) for r in right.values()) > 0
    assert found["none"] == 0
    assert len(found["answers"]) == len(group.lines)
    assert found["answers"][0].startswith("plain: ")
    assert found["wide"]
