"""Where a fault stands in a JSON document, and what is let through."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.strict_json import FormatError, parse_object, read_bounded, shown


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": {"b": [1, 2, NaN]}}', "NaN is not a JSON number, in a.b[2]"),
        ('{"a": [{"b": 1}, {"b": -Infinity}]}', "-Infinity is not a JSON number, in a[1].b"),
        ('{"a": [0, {"c": 1e999}]}', "'1e999' is not a JSON number, in a[1].c"),
        ('{"NaN": "NaN [{", "b": NaN}', "NaN is not a JSON number, in b"),
        ('{"a": [1, 2', "delimiter: line 1 column 12 (char 11), in a[1]"),
        ('{"a": {"b": tru', "in a.b"),
        ('{"a": {"b": 1}, "c": [[', "in c[0][0]"),
        ('{"a\\"]": [}', 'in a\\"][0]'),
        ('{"a": ' + "[" * 100_000, "nested too deeply, in a[0][0][0][0][0]..."),
        ('{"x": 1, "a": ' + '{"b":' * 100_000, "nested too deeply, in a.b.b.b.b.b..."),
        ("", "line 1 column 1 (char 0)"),
        ('{"a": 1, "a": 2}', "key 'a' is there twice"),
        # Large ones are looked at in another way.
        ('{"a": 1, "b": [' + "0, " * 2000 + '{"a": 1, "a" : 2}]}', "key 'a' is there twice"),
        ('{"a": ":' + "x" * 5000 + '", "b": 1, "b": 2}', "key 'b' is there twice"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"a": "\ud800"}', "surrogates not allowed"),
        ("[1]", "a JSON object was expected, got [1]"),
    ],
)
def test_the_field_of_a_fault_is_named(text, complaint):
    with pytest.raises(FormatError) as caught:
        parse_object(text, "document")
    assert str(caught.value).startswith("document: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_let_through_only_when_asked_for():
    assert math.isnan(parse_object('{"a": NaN}', "document", allow_nan=True)["a"])
    assert parse_object('{"a": 1e999}', "document", allow_nan=True)["a"] == math.inf


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), _JSON, max_size=4))
def test_any_strict_object_is_read_as_it_is(value):
    for ascii_only in (True, False):
        assert parse_object(json.dumps(value, ensure_ascii=ascii_only), "document") == value


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), _JSON, max_size=4))
def test_a_large_object_is_read_as_it_is(value):
    large = {"filling": [0] * 2000, "value": value}
    assert parse_object(json.dumps(large), "document") == large
    assert parse_object(json.dumps(large, indent=1), "document") == large


@given(st.dictionaries(st.text(max_size=4), _JSON, min_size=1, max_size=4), st.data())
def test_any_truncation_is_refused_in_one_line(value, data):
    text = json.dumps(value)
    end = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(FormatError, match="^document: not strict JSON: [^\n]*$"):
        parse_object(text[:end], "document")


def test_a_file_beyond_its_limit_is_not_read(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 11)
    assert read_bounded(path, 11) == b"x" * 11
    with pytest.raises(FormatError, match="more than the 0 MiB that are read; split the file"):
        read_bounded(path, 10)


def test_what_is_shown_is_one_bounded_line():
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "a deeply nested list"
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 500)) == 80
