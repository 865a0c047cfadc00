"""A stranger's cache names a server, a module and the variable that holds a key: no command opens what it names."""

import json
import shlex
from pathlib import Path

import pytest

from teacher_cache import Cache, Source, build, spec_to_type
from tests.pipelines.cli import FAKES, armada
from tests.teacher_cache.image_server import serving
from tests.teacher_cache.maintenance.caches import adapters

pytestmark = pytest.mark.faults
COMMANDS = (
    ("retry", "CACHE"),
    ("verify", "CACHE", "--recompute", 3),
    ("verify", "CACHE", "--repair"),
    ("status", "CACHE"),
    ("prompts", "CACHE"),
    ("compact", "CACHE"),
    ("export", "CACHE", "OUT", "--to", "webdataset"),
    ("merge", "CACHE", "MERGED"),
)


@pytest.fixture
def module(tmp_path):
    """A module that leaves a file when it is imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'imported')!r}, 'w')\nfrom tests.fakes import FakeTeacher as Teacher\n"
    )
    return folder


@pytest.mark.parametrize("attack", ["server", "module", "file", "shell"])
def test_no_command_opens_what_a_caches_files_say_of_teacher_and_encoder(tmp_path, module, attack):
    cache = Cache(str(tmp_path / "stranger"), create=True)
    build(cache, ["fine", "[transient] a", "[transient] b"], *adapters())
    with serving() as server:
        text = {
            "server": f"openai:m?base_url={server.url}&key_env=MY_SECRET",
            "module": "evil:Teacher",
            "file": f"{module / 'evil.py'}:Teacher",
            "shell": f"x'; touch {tmp_path / 'touched'}; echo '\x1b]0;owned\x07",
        }[attack]
        for path in [*Path(str(cache.store)).rglob("teacher.json"), *Path(str(cache.store)).rglob("encoder.json")]:
            facts = json.loads(path.read_text()) | {"text": text, "deterministic": True}
            path.write_text(json.dumps(facts))
        secret = {"MY_SECRET": "sk-secret", "PYTHONPATH": f"{module}:{Path(__file__).parents[2]}"}
        places = {"CACHE": cache.store, "OUT": tmp_path / "out", "MERGED": tmp_path / "merged"}
        for name, *words in COMMANDS:
            done = armada("cache", name, *(places.get(word, word) for word in words), **secret)
            assert "Traceback" not in done.stderr, done.stderr
            assert "\x1b" not in done.stderr
            if name == "retry" or "--recompute" in words:
                assert done.returncode == 2
                assert "--teacher " in done.stderr
                assert "sk-secret" not in done.stderr
        assert not server.requested
        assert not server.keys
    assert not (tmp_path / "imported").exists()
    retried = armada("cache", "retry", cache.store, *FAKES, "--json", **secret)
    assert json.loads(retried.stdout)["retried"][0]["calls"] == 2
    assert not (tmp_path / "imported").exists()


def test_a_proposed_command_is_one_word_per_spec_for_a_shell(tmp_path):
    text = f"x'; touch {tmp_path}/touched; echo '$(id)`id`\n"
    (word,) = shlex.split(spec_to_type(Source({}, "", {"text": text})))
    assert word == text.strip()
    assert spec_to_type(Source({}, "")) == "SPEC"
