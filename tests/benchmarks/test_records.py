from __future__ import annotations

import json

import pytest

from memkit import BadInput
from memkit.benchmarks.records import Record, is_hub_id, json_lines, read, to_records

ROWS = [{"id": 7, "text": "Erewhon\u2028"}, {"id": 7, "text": "Emma"}]


def record(**fields) -> Record:
    return Record("'rows.json', row 3", "3", fields)


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("Erewhon", ("Erewhon",)),
        (" Erewhon\n", ("Erewhon",)),
        (["Erewhon", "Over the Range"], ("Erewhon", "Over the Range")),
        ([["Erewhon", "Over the Range"], ["Emma"]], ("Erewhon", "Over the Range", "Emma")),
        (["", " ", "Emma"], ("Emma",)),
        ("", ()),
        ([], ()),
        ([[]], ()),
        (None, ()),
    ],
)
def test_texts_of_a_string_a_list_or_lists(value, texts):
    assert record(name=value).texts("name") == texts
    assert record().texts("name") == ()
    if texts:
        assert record(name=value).text("name") == texts[0]
        return
    with pytest.raises(BadInput, match=r"rows.json', row 3: name is .*; allowed: text that is not"):
        record(name=value).text("name")


def test_a_field_that_is_absent_or_of_another_kind():
    with pytest.raises(BadInput, match=r"row 3 has no 'name'; its fields are 'a', 'b'\. Check"):
        record(a=1, b=2).text("name")
    with pytest.raises(BadInput, match="its fields are none"):
        record().text("name")
    for value in (3, {"a": "b"}, ["Emma", 3]):
        with pytest.raises(BadInput, match=r"row 3: name holds .*; allowed: text, or lists"):
            record(name=value).texts("name")


def test_objects_within_a_row():
    row = record(one={"a": "x"}, more=[{"a": "y"}, {"a": "z"}], none=None, text="x", texts=["x"])
    assert row.inner("one").text("a") == "x"
    assert row.inner("one").where == "'rows.json', row 3, one"
    assert [item.text("a") for item in row.items("more")] == ["y", "z"]
    for absent in ("none", "other"):
        assert row.inner(absent).fields == {}
        assert row.items(absent) == []
    with pytest.raises(BadInput, match="row 3: text holds 'x'; allowed: an object"):
        row.inner("text")
    with pytest.raises(BadInput, match=r"row 3: one is .*; allowed: a list of objects"):
        row.items("one")
    with pytest.raises(BadInput, match="row 3: texts holds 'x'; allowed: an object"):
        row.items("texts")


def test_reads_a_list_and_lines_under_any_name(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS), encoding="utf-8-sig")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    records = read("x", path, None, key="id")
    assert [r.fields for r in records] == ROWS
    assert [r.id for r in records] == ["7", "7#2"]
    assert [r.where for r in records] == [f"{str(path)!r}, row {n}" for n in (1, 2)]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS))
    records = read("x", path, None)
    assert [r.fields for r in records] == ROWS
    assert [r.id for r in records] == ["1", "3"]  # without a key the number, here of the line
    path.write_text(json.dumps(ROWS[0]))
    assert [r.fields for r in read("x", path, None)] == ROWS[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("[]", "has no rows"),
        ("3", "row 1 is '3'; allowed: a JSON object"),
        ('[{"a": 1}, "b"]', "row 2 is 'b'; allowed: a JSON object"),
        ('[{"a": 1}, {"b', "is no JSON .*column.*It may be cut off"),
        ('{"a": 1}\n{"b', "row 2 is no JSON .*begins with .*Allowed: a JSON list of objects"),
        ("\u00fc", "cannot be read .*allowed: a file in UTF-8"),
    ],
)
def test_refuses_what_is_no_rows(tmp_path, text, message):
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=f"rows.json'.* ?{message}"):
        read("x", path, None)


def test_refuses_paths_and_splits(tmp_path):
    with pytest.raises(
        BadInput, match=r"x has path None.*Download https://u and .*load\('x', path"
    ):
        read("x", None, None, url="https://u")
    with pytest.raises(BadInput, match="is a folder; allowed: a file with x"):
        read("x", tmp_path, None)
    with pytest.raises(BadInput, match="does not exist"):
        read("x", "data/rows.json", None)
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(BadInput, match=r"split is 'test' for the file .*; allowed: None"):
        read("x", tmp_path / "rows.json", "test")


def test_what_is_a_hub_id(tmp_path, monkeypatch):
    assert is_hub_id("azhx/counterfact")
    for name in ("azhx", "azhx/counterfact.json", "a/b/c", "https://azhx/counterfact"):
        assert not is_hub_id(name)
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("here/rows")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "rows").touch()
    assert not is_hub_id("here/rows")


def test_reads_the_hub_through_datasets(monkeypatch):
    import datasets

    asked = []

    def load_dataset(source, split, **options):
        asked.append((source, split, options))
        parts = {row["text"]: datasets.Dataset.from_list([row]) for row in ROWS}
        return datasets.DatasetDict(parts) if split is None else parts[split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    records = read("x", None, None, hub="someone/x")
    assert [r.fields for r in records] == ROWS  # all splits
    assert [r.where for r in records] == ["someone/x, row 1", "someone/x, row 2"]
    assert [r.fields for r in read("x", "other/x", "Emma", hub="someone/x")] == ROWS[1:]
    assert asked == [("someone/x", None, {}), ("other/x", "Emma", {})]


def test_says_what_to_do_without_the_hub(monkeypatch):
    import datasets

    for error in (ConnectionError, ValueError, datasets.exceptions.DatasetGenerationError):

        def load_dataset(source, split, error=error):
            raise error("no luck")

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        with pytest.raises(BadInput, match=r"x cannot be read .*'a/b'.*no luck.*load\('x', path="):
            read("x", "a/b", None)


def test_lines_and_records_by_hand():
    assert list(json_lines('\n{"a": 1}\n 2\n', "s", "x")) == [(2, {"a": 1}), (3, 2)]
    records = to_records([(4, {"id": "a"}), (5, {})], "s", "id")
    assert [(r.where, r.id) for r in records] == [("s, row 4", "a"), ("s, row 5", "5")]
