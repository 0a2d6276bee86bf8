import re

import pytest

from step_analysis.outcome_files import read_outcomes
from step_analysis.usage import UsageError


@pytest.mark.parametrize(
    "text",
    [
        "0 1 1 0",
        "0\n1\n1\n0\n",
        "0,1,1,0",
        " 0, 1,\t1 ,\n0\n",
        "0110",
        "[0, 1, 1, 0]",
        "[0,\n1,1,0]\n",
        "\ufeff0 1 1 0",
    ],
)
def test_the_same_outcomes_however_they_are_separated(tmp_path, text):
    path = tmp_path / "outcomes.txt"
    path.write_text(text, encoding="utf-8")
    assert read_outcomes(path) == [0, 1, 1, 0]


def test_a_single_outcome(tmp_path):
    path = tmp_path / "outcomes.txt"
    path.write_text("1\n", encoding="utf-8")
    assert read_outcomes(path) == [1]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty: outcomes 0 and 1 expected"),
        (b" \n", "is empty: outcomes 0 and 1 expected"),
        (b"[]", "is empty: outcomes 0 and 1 expected"),
        (b"0 1 2", "outcome 2 must be 0 or 1, got '2'"),
        (b"0 1 nan", "outcome 2 must be 0 or 1, got 'nan'"),
        (b"0 1 10", "outcome 2 must be 0 or 1, got '10'"),
        (b"0,,1", "outcome 1 must be 0 or 1, got ''"),
        (b"0 1.0", "outcome 1 must be 0 or 1, got '1.0'"),
        (b"[0, 1.0]", "outcome 1 must be 0 or 1, got 1.0"),
        (b"[0, true]", "outcome 1 must be 0 or 1, got True"),
        (b"[0, NaN]", "outcome 1 must be 0 or 1, got nan"),
        (b"[0, [1]]", "outcome 1 must be 0 or 1, got [1]"),
        (b"[0, 1", "is not a JSON list"),
        (b"[" * 100_000, "is not a JSON list"),
        (b"\xff\xfe0", "is not text"),
        (b"0 " * 4_000_001, "is larger than 8000000 bytes"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, content, complaint):
    path = tmp_path / "outcomes.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(complaint)) as caught:
        read_outcomes(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 300
