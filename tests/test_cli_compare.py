"""`memkit compare` and `memkit report`."""

from __future__ import annotations

import pytest


@pytest.fixture
def spec(tmp_path, small_world):
    path = tmp_path / "spec.toml"
    path.write_text(
        f'name = "x"\n[models.m]\npath = "{small_world}/model"\n[benchmarks.miniworld]\n'
        f'path = "{small_world}"\nquestions = 8\n[memories.none]\n[memories.definition]\n'
        'retriever = "definitions"\n',
        encoding="utf-8",
    )
    return path


def test_a_comparison_from_file_to_report(run, spec, tmp_path):
    code, out, err = run("compare", spec, "--out", tmp_path / "x")
    assert (code, out) == (0, f"2 cells done, 0 failed, records in {tmp_path / 'x'}\n")
    assert "none on m, miniworld, seed 0: " in err
    code, out, _ = run("report", tmp_path / "x", "--format", "md")
    assert code == 0
    assert out.startswith("## m on miniworld: exact match")
    assert "| definition |" in out
    page = tmp_path / "new" / "folder" / "both.html"
    code, out, err = run("report", tmp_path / "x", tmp_path / "x", "--out", page)
    assert (code, out) == (0, "")
    assert "Side by side" in page.read_text(encoding="utf-8")
    code, out, _ = run("report", tmp_path / "x", "--format", "latex")
    assert r"\toprule" in out


def test_a_dry_run_says_sizes_and_time(run, spec):
    code, out, _ = run("compare", spec, "--dry-run")
    assert code == 0
    assert "2 cells (1 models, 2 memories, 1 benchmarks, 1 seeds), 16 answers" in out
    assert "in all about" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "nowhere.toml", "--out", "x"], "cannot be read"),
        (["compare", "SPEC"], "--out is missing"),
        (["compare", "SPEC", "--out", "x", "--on", "spark"], "--on is 'spark'"),
        (["compare", "SPEC", "--out", "x", "--workers", "2"], "without --on ray"),
        (["report", "nowhere"], "cannot be read"),
        (["report", "nowhere", "--format", "pdf"], "'html', 'md', 'csv', 'latex'"),
    ],
)
def test_what_cannot_be_done_is_said(run, spec, arguments, said):
    code, out, err = run(*(spec if a == "SPEC" else a for a in arguments))
    assert (code, out) == (2, "")
    assert said in err
