"""A prompt in a folder of pictures gets its own picture or none; what is ambiguous or shared is said."""

import unicodedata

import pytest

from teacher_cache import build, open_teacher
from teacher_cache.teachers.folder_names import fold, written_names
from tests import fakes
from tests.teacher_cache.teachers.test_folder import draw, save


@pytest.mark.parametrize(
    ("name", "own", "others"),
    [
        ("🙂.png", ["🙂"], ["😡", "!!!", "🙂🙂", "🙂 cat", " "]),
        ("👩‍🚀.png", ["👩‍🚀"], ["👩", "🚀", "👨‍🚀", "👩🏽‍🚀"]),
        ("कील.png", ["कील", "कील!"], ["कूल", "काल", "कल"]),
        ("ไม้.png", ["ไม้"], ["ไม่", "ไม"]),
        ("שָׁלוֹם.png", ["שָׁלוֹם"], ["שלום"]),
        ("がく.png", ["がく"], ["かく"]),
        ("c++.png", ["C++", "c++"], ["C#", "C", "C+", "c--"]),
        ("c#.png", ["C#"], ["C++", "C"]),
        ("c.png", ["C", "c?"], ["C#", "C++"]),
        ("-5.png", ["-5", "_5"], ["5"]),
        ("what!.png", ["What!", "what!"], ["What?", "what"]),
        ("!!!.png", ["!!!"], ["???", "!", ""]),
        ("---.png", ["---"], ["!!!", "-", "___", ""]),
        ("3 < 4.png", ["3 < 4"], ["3 > 4", "3 4"]),
        ("naïve café.png", ["naïve café", "Naïve  Café?"], ["naive cafe"]),
        ("maße.png", ["Maße"], ["Masse"]),
        ("a_red-cat,_4k.png", ["A red cat, 4k", "a red-cat, 4k"], ["a red cat 4k", "a red cat; 4k"]),
        (
            "a-red-cat-4k.png",
            ["A red cat, 4k!", "a (red) cat: 4k", "“A red cat” — 4k"],
            ["a red cat, 4 k", "red cat 4k"],
        ),
        ("a-red-cat-.png", ["A red cat!"], ["A red cat"]),
        ("what is c++.png", ["What is C++?"], ["What is C?", "What is C#?"]),
        ("version-1.2.png", ["Version 1.2", "version-1.2"], ["version 1", "Version 12"]),
        ("R&D 50%.png", ["R&D 50%", "r&d 50%!"], ["RD 50", "R D 50"]),
    ],
)
def test_a_name_matches_its_own_prompts_and_no_others(tmp_path, name, own, others):
    save(tmp_path / "mine", name)
    found = draw(tmp_path / "mine", own + others)
    assert {prompt: found[prompt] for prompt in own} == dict.fromkeys(own, name)
    assert all(found[prompt].startswith("no picture in") for prompt in others), found


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("text", ["Übergrößenträger", "कील", "がく", "한국어", "Việt Nam", "é🙂"])
def test_a_name_matches_in_either_unicode_form(tmp_path, form, text):
    save(tmp_path / "mine", unicodedata.normalize(form, text) + ".png")
    for prompt in (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
        assert not draw(tmp_path / "mine", [prompt])[prompt].startswith("no picture")


def test_names_that_differ_in_marks_lie_side_by_side(tmp_path, cache):
    for seed, name in enumerate(["कील", "कूल", "काल"]):
        save(tmp_path / "mine", f"{name}.png", seed)
    report = build(cache, ["कील", "कूल", "काल"], open_teacher(f"folder:{tmp_path / 'mine'}"), fakes.encoder())
    assert (report.drawn, report.failed) == (3, {})


def test_the_exact_name_comes_first_and_names_that_match_equally_well_are_called_ambiguous(tmp_path):
    for seed, name in enumerate(["a cat.png", "A-Cat.png", "a_dog.png", "a_dog.jpg", "a fox.png"]):
        save(tmp_path / "mine", name, seed)
    found = draw(tmp_path / "mine", ["a cat", "A-Cat", "A cat", "a dog", "a fox"])
    assert (found["a cat"], found["A-Cat"], found["a fox"]) == ("a cat.png", "A-Cat.png", "a fox.png")
    assert "several pictures" in found["A cat"]
    assert "(A-Cat.png, a cat.png)" in found["A cat"]
    assert "(a_dog.jpg, a_dog.png)" in found["a dog"]


def test_a_file_that_serves_several_prompts_is_named_with_them(tmp_path, capsys):
    save(tmp_path / "mine", "what.png")
    assert draw(tmp_path / "mine", ["What?", "What!"]) == {"What?": "what.png", "What!": "what.png"}
    assert "what.png serves 2 requests: 'What?', 'What!'" in capsys.readouterr().err


def test_a_match_does_not_depend_on_the_other_prompts(tmp_path):
    prompts = ["C", "C#", "c", "C!", "a b", "a_b", "A-B", "what?", "-5", "5"]
    for seed, name in enumerate(["c.png", "c#.png", "a-b.png", "a b.png", "what.png", "5.png"]):
        save(tmp_path / "mine", name, seed)
    together = draw(tmp_path / "mine", prompts)
    assert draw(tmp_path / "mine", prompts[::-1]) == together
    for prompt in prompts:
        assert draw(tmp_path / "mine", [prompt]) == {prompt: together[prompt]}


def test_names_are_written_from_the_closest_to_the_loosest():
    assert fold("  A_red -cat") == "-a-red-cat"
    assert list(written_names("A red/blue cat: No. 2!_")) == [
        "a-red/blue-cat:-no.-2!-",
        "a-red-blue-cat-no.-2!-",
        "a-red-blue-cat-no.-2!",
        "a-red-blue-cat-no-2-",
        "a-red-blue-cat-no-2",
    ]
    assert list(written_names("?!")) == ["?!", "-!", "!"]
