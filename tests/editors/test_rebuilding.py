"""An editor's representation gives the editor, and other text gives nothing but an error."""

from __future__ import annotations

import math
import os

import pytest

from memkit import MEMIT, ROME, AlphaEdit, FineTune, Guards, Statistics
from memkit.editors import EDITORS
from memkit.editors.rebuilding import rebuilt
from memkit.errors import BadInput


@pytest.mark.parametrize(
    "editor",
    [
        *(kind() for kind in EDITORS.values()),
        ROME(layer=-1, contexts=("{}", 'it\'s "quoted"\n{}', "東京 \\ {}"), variant="official"),
        MEMIT(layers=(1, 2), weight=1e-9, history=False),
        AlphaEdit(null_share=0.5, statistics=Statistics("some/set:x", tokens=7, ridge=0.5)),
        ROME(guards=Guards(math.inf, 1e300, 0.0, "a text"), on_guard="warn", seed=3),
        FineTune(parameters="all", lr=1e-5),
    ],
    ids=lambda editor: type(editor).__name__,
)
def test_the_representation_rebuilds_it(editor):
    again = rebuilt(repr(editor))
    assert again == editor
    assert type(again) is type(editor)
    assert repr(again) == repr(editor)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('{}')",
        "ROME(layer=__import__('os').system('{}'))",
        "ROME(layer=(lambda: open('{}', 'w'))())",
        "[open('{}', 'w') for _ in (1,)][0]",
        "ROME(statistics=exec(\"open('{}', 'w')\"))",
        "ROME.__class__('x', (), {{}})",
        "ROME().apply('{}')",
        "open('{}', 'w')",
        "(ROME := open('{}', 'w'))",
        "f\"{{open('{}', 'w')}}\"",
    ],
)
def test_code_is_refused_and_not_run(text, tmp_path):
    target = tmp_path / "written"
    command = f"touch {target}" if "system" in text else str(target)
    text = text.format(command)
    assert str(target) in text or "__class__" in text
    with pytest.raises(BadInput, match="is no editor"):
        rebuilt(text)
    assert not target.exists()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ROME",
        "ROME(",
        "ROME(1)",
        "ROME(*(1,))",
        "ROME(**{'layer': 1})",
        "ROME(depth=1)",
        "ROME(layer=one)",
        "Guards()",
        "Statistics()",
        "3",
        "'ROME()'",
        "Editor()",
        "dict()",
        "ROME(layer=1); ROME()",
        "ROME(layer=1)\nROME()",
        "ROME(variant='q')",
        "ROME(contexts=('no place',))",
        "MEMIT(weight=-1.0)",
        "-" * 20_000 + "1",
        "Guards(text=" * 3_000 + "1" + ")" * 3_000,
        "ROME(layer=" + "9" * 5_000 + ")",
        "ROME(layer='\0')",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_representation_is_refused(text):
    with pytest.raises(BadInput, match="allowed"):
        rebuilt(text)
