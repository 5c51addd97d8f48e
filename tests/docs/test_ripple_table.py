"""The script of ripples, multi-hop questions and the probe runs, in a short form."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "comparisons" / "ripple_table.py"


def test_ripple_table(tmp_path, capsys):
    script = runpy.run_path(str(SCRIPT))
    options = ["--methods", "FineTune", "BM25", "--edits", "2", "--capitals", "1", "--chains", "2"]
    script["main"]([*options, "--batch", "1", "2", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "Ripples of 3 edits, each alone" in printed
    assert "2 chains, " in printed
    assert printed.count("| unedited |") == 2
    assert printed.count("| BM25 |") == 4
    assert printed.count("| page views ") == 10
    found = json.loads((tmp_path / "out" / "ripple.json").read_text(encoding="utf-8"))
    assert set(found) == {"FineTune", "BM25"}
    assert len(found["BM25"]["records"]) == 3
    found = json.loads((tmp_path / "out" / "multihop.json").read_text(encoding="utf-8"))
    assert set(found) == {"FineTune, 1", "FineTune, 2", "BM25, 1", "BM25, 2"}


def test_ripple_table_of_real_records(shared, tmp_path, capsys):
    from memkit.testing.models import tiny_lm

    tiny_lm("gpt2", n_positions=1024).save(tmp_path / "model")
    script = runpy.run_path(str(SCRIPT))
    data = shared / "data" / "mquake"
    options = ["--model", str(tmp_path / "model"), "--mquake", str(data / "AKEW/MQuAKE-CF.json")]
    options += ["--methods", "BM25", "--chains", "2", "--batch", "2"]
    script["main"]([*options, "--shots", str(data / "prompts")])
    printed = capsys.readouterr().out
    assert "2 chains, 0 known before" in printed
    assert "Ripples of" not in printed
