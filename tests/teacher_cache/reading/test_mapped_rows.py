"""Rows are the same whether torch or numpy gathers them, and torch is not imported for gathering."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from teacher_cache.reading import mapped_rows
from teacher_cache.reading.key_table import row_sums


@pytest.mark.parametrize("with_torch", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 512])
def test_rows_and_checksums_equal_those_of_numpy(monkeypatch, tmp_path, with_torch, dtype, width):
    if not with_torch:
        monkeypatch.delitem(sys.modules, "torch")
    assert mapped_rows._torch() is (torch if with_torch else None)
    generator = np.random.default_rng(0)
    values = generator.standard_normal((97, width)).astype(dtype)
    values.tofile(tmp_path / "matrix")
    matrix = np.memmap(tmp_path / "matrix", dtype, "r", shape=values.shape)
    gatherer = mapped_rows.Gatherer(matrix)
    for rows in (generator.permutation(97), np.arange(0), np.array([96, 0, 0], np.int32), np.arange(9)[::-1]):
        out = np.empty((len(rows), width), dtype)
        gatherer.take(rows, out)
        assert out.tobytes() == values[rows].tobytes()
        assert (mapped_rows.sums_of(out) == row_sums(values[rows])).all()


def test_read_only_rows_cause_no_warning(recwarn):
    rows = np.arange(5)
    rows.flags.writeable = False
    matrix = np.ones((5, 4), np.float32)
    matrix.flags.writeable = False
    out = np.empty_like(matrix)
    mapped_rows.Gatherer(matrix).take(rows, out)
    mapped_rows.Gatherer(matrix).take(np.arange(5), out)
    assert (out == 1).all()
    assert list(recwarn) == []


def test_gathering_does_not_import_torch():
    code = "from teacher_cache.reading.mapped_rows import _torch; assert _torch() is None"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
