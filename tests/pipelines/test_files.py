"""What is written as JSON is strict JSON: readers other than Python's refuse NaN and Infinity."""

import json

import pytest

from pipelines.files import json_text, write_json


def test_no_nan_and_no_infinity_is_written(tmp_path):
    value = {"a": float("nan"), "b": [1.5, float("-inf"), (float("inf"), 2)], "c": {"d": float("nan")}, "e": "NaN"}
    write_json(tmp_path / "run.json", value)
    found = json.loads((tmp_path / "run.json").read_text(), parse_constant=pytest.fail)
    assert found == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": None}, "e": "NaN"}
    assert json_text(value, ensure_ascii=False) == json.dumps(found)
