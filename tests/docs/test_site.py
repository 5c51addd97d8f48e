"""The site builds without a warning, and its reference has every method."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest

import memkit

pytest.importorskip("mkdocs")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site's folder, and what was warned of."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    finally:
        logging.getLogger("mkdocs").removeHandler(handler)
    return folder, warned


def test_it_builds_without_a_warning(site):
    folder, warned = site
    assert warned == []
    assert (folder / "index.html").is_file()


def test_it_asks_nothing_of_the_network(site):
    folder, _ = site
    fetched = re.compile(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>")
    for page in (folder / "index.html", folder / "decide" / "index.html"):
        assert fetched.findall(page.read_text(encoding="utf-8")) == []


def test_a_broken_link_would_be_warned_of(tmp_path):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[gone](gone.md)", encoding="utf-8")
    (tmp_path / "mkdocs.yml").write_text("site_name: x", encoding="utf-8")
    config = load_config(str(tmp_path / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True)
    with pytest.raises(Abort):
        build(config)


def test_the_reference_has_every_editor_protocol_and_metric(site):
    folder, _ = site
    reference = folder / "reference"
    for editor in memkit.EDITORS.values():
        assert (reference / "editors" / editor.__name__.lower() / "index.html").is_file()
    rome = (reference / "editors" / "rome" / "index.html").read_text(encoding="utf-8")
    assert "arXiv:2202.05262" in rome
    assert "variant" in rome
    overview = (reference / "index.html").read_text(encoding="utf-8")
    for name in (*memkit.protocols.__all__, "PopularityRouter", "Hybrid"):
        assert f">{name}</a>" in overview, name
    metrics = (reference / "metrics" / "index.html").read_text(encoding="utf-8")
    assert "exact_match" in metrics


def test_nothing_of_the_hook_stays_loaded(site):
    assert not [name for name in sys.modules if name == "docs.reference"]
