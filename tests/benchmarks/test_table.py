"""`make bench` and `make gpu`: a table with the machine, whatever single benchmarks do; no GPU is told in words."""

import json
import re
import subprocess
import sys

import pytest

from tests.benchmarks.conftest import BENCHMARKS, ROOT


def program(folder, text):
    path = folder / f"program-{len(list(folder.iterdir()))}.py"
    path.write_text(text)
    return str(path)


def test_a_table_has_the_machine_the_figures_and_what_could_not_be_measured(modules, tmp_path):
    every, sizes = modules["all"], modules["sizes"]
    figures = (
        sizes.Figure("speed of {n:,}", ("a", -1, "x"), "{:.1f} rows/s", sizes.DISK),
        sizes.Figure("absent", ("b",)),
    )
    printed = json.dumps({"a": {"1": {"x": 5}, "2": {"x": 7.25}}, "n": 1000})
    sound = program(tmp_path, f"print('loading'); print('{printed}'); raise SystemExit(3)")
    broken = program(tmp_path, "raise ValueError('no such disk')")
    silent = program(tmp_path, "")
    benchmarks = [
        sizes.Benchmark(f"b{n}", path, "--small", "", figures, "a note")
        for n, path in enumerate((sound, broken, silent))
    ]
    results = [every.run(one, one.small) for one in benchmarks]
    text = modules["table"].table("Title", "make it", modules["machine"].machine_facts(), benchmarks, results)
    assert f"| speed of 1,000 | 7.2 rows/s | processor, disk | `python benchmarks/{sound} --small` |" in text
    assert "absent" not in text
    assert "| b1 | not measured: ValueError: no such disk | |" in text
    assert "| b2 | not measured: exit code 0, without a word | |" in text
    assert re.search(r"^Written by `make it` on 20\d\d-\d\d-\d\d, in 0 minutes\.", text, re.MULTILINE)
    assert re.search(r"Measured on: .+, \d+ cores, [\d.]+ GiB, .*Python 3\.\d+\.\d+; .*torch \d", text)
    assert re.search(r"- b0: \d+ s; a bound of its full size was missed\. A note\.", text)


def test_the_reason_of_a_failure_is_the_error_and_not_what_python_says_while_it_ends(modules, tmp_path):
    every, sizes = modules["all"], modules["sizes"]
    text = """
class Bar:
    def __del__(self):
        raise AttributeError("no pos")

bar = Bar()
raise RuntimeError("the set changed")
"""
    found = every.run(sizes.Benchmark("fails", program(tmp_path, text), "", "", ()), "")
    assert (found.code, found.fault) == (1, "RuntimeError: the set changed")


def test_a_benchmark_that_takes_too_long_is_ended_and_said(modules, tmp_path):
    every, sizes = modules["all"], modules["sizes"]
    slow = program(tmp_path, "import time; time.sleep(60)")
    found = every.run(sizes.Benchmark("slow", slow, "", "", ()), "", limit_s=0.3)
    assert (found.code, found.facts, found.fault) == (124, None, "no result within 0 s")


def test_every_benchmark_of_the_table_takes_the_arguments_that_it_is_given(modules):
    parts = [*modules["sizes"].BENCHMARKS, *modules["gpu"].PARTS]
    assert len({one.name for one in modules["sizes"].BENCHMARKS}) == len(modules["sizes"].BENCHMARKS)
    for one in parts:
        text = (BENCHMARKS / one.program).read_text()
        known = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', text))
        for words in filter(None, (one.small, one.tiny)):
            given = {word for word in words.split() if word.startswith("--")}
            assert given <= known, one.program
            assert "--json" in given or "--json" not in known


def test_the_command_writes_the_table_and_its_json_as_it_goes(modules, tmp_path, monkeypatch, capsys):
    every, sizes = modules["all"], modules["sizes"]
    works = sizes.Benchmark("works", program(tmp_path, "print('{\"x\": 1}')"), "", "", (sizes.Figure("x", ("x",)),))
    fails = sizes.Benchmark("fails", program(tmp_path, "raise SystemExit('broken')"), "", "", ())
    out = tmp_path / "out"
    for benchmarks, code in (((works,), 0), ((works, fails), 1)):
        monkeypatch.setattr(every, "BENCHMARKS", benchmarks)
        monkeypatch.setattr(sys, "argv", ["all.py", "--out", str(out)])
        assert every.main() == code
        facts = json.loads((out / "benchmarks.json").read_text())
        assert [one["name"] for one in facts["results"]] == [one.name for one in benchmarks]
        assert facts["machine"]["processor"]
        assert (out / "benchmarks.md").read_text() in capsys.readouterr().out
    assert "not measured: broken" in (out / "benchmarks.md").read_text()


def test_one_benchmark_is_measured_again_and_the_others_keep_their_figures_of_this_machine_only(
    modules, tmp_path, monkeypatch, capsys
):
    every, sizes = modules["all"], modules["sizes"]
    figure, count = (sizes.Figure("x", ("x",)),), tmp_path / "count"
    count.write_text("0")
    text = (
        f"n = int(open({str(count)!r}).read()) + 1; open({str(count)!r}, 'w').write(str(n)); print('{{\"x\": %d}}' % n)"
    )
    monkeypatch.setattr(
        every, "BENCHMARKS", [sizes.Benchmark(name, program(tmp_path, text), "", "", figure) for name in ("a", "b")]
    )
    out = tmp_path / "out"

    def values(*words):
        monkeypatch.setattr(sys, "argv", ["all.py", "--out", str(out), *words])
        assert every.main() == 0
        facts = json.loads((out / "benchmarks.json").read_text())
        assert (out / "benchmarks.md").read_text() == every.page_of(facts)
        return {one["name"]: one["facts"]["x"] for one in facts["results"]}

    assert values("--only", "b", "--add") == {"b": 1}
    assert values("--only", "a", "--add") == {"a": 2, "b": 1}
    assert list(values("--only", "b", "--add").items()) == [("a", 2), ("b", 3)]
    (out / "benchmarks.md").unlink()
    assert values("--table") == {"a": 2, "b": 3}
    for words, message in ((["--tiny"], "of the same size"), ([], "of this machine, {'cores': 7}, found {'cores': ")):
        with pytest.raises(SystemExit, match="2"):
            values("--only", "a", "--add", *words)
        assert message in capsys.readouterr().err
        other = {**modules["machine"].machine_facts(), "cores": 7}
        monkeypatch.setattr(every, "machine_facts", lambda other=other: other)
    assert values("--only", "a") == {"a": 4}


def test_without_a_gpu_make_gpu_says_so_runs_nothing_and_ends_with_a_code_of_its_own(
    modules, tmp_path, monkeypatch, capsys
):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(subprocess, "run", None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out")])
    assert modules["gpu"].main() == modules["gpu"].NO_GPU == 69
    message = capsys.readouterr().err
    assert message.startswith(f"no GPU: expected one that torch {torch.__version__} can use, found a torch ")
    assert "Nothing was run." in message
    assert not (tmp_path / "out").exists()


def test_with_a_gpu_all_parts_run_in_ten_minutes_and_decide_the_exit_code(modules, tmp_path, monkeypatch):
    import torch

    gpu = modules["gpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    limits, codes = [], []

    def fake(part, words, limit_s):
        limits.append(limit_s)
        return modules["table"].Result(part.name, words, 1.0, codes[-1], {} if codes[-1] != 1 else None)

    monkeypatch.setattr(gpu, "run", fake)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out")])
    for tests, code, expected in ((0, 0, 0), (1, 0, 1), (0, 3, 3), (0, 1, 1)):
        codes.append(code)
        monkeypatch.setattr(
            gpu, "run_tests", lambda limit_s, tests=tests: {"code": tests, "seconds": 1, "said": ["x"], "failed": []}
        )
        assert gpu.main() == expected
    assert len(limits) == 4 * len(gpu.PARTS)
    assert max(limits) + gpu.TESTS_S <= 600 + gpu.TESTS_S
    assert gpu.TOTAL_S < 600
    assert len(json.loads((tmp_path / "out" / "gpu.json").read_text())["results"]) == len(gpu.PARTS)


def test_the_makefile_has_both():
    text = (ROOT / "Makefile").read_text()
    assert "\nbench: install\n\t$(VENV)/bin/python benchmarks/all.py\n" in text
    assert "\ngpu: install\n\t$(VENV)/bin/python benchmarks/gpu.py\n" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_benchmarks_run_at_the_smallest_size(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "all.py"), "--tiny", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880)
    facts = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    assert done.returncode == 0, [(one["name"], one["fault"]) for one in facts["results"] if one["facts"] is None]
    text = (tmp_path / "out" / "benchmarks.md").read_text()
    assert text.count("\n| ") > len(facts["results"])
