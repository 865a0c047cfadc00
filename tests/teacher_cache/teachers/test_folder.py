"""The folder teacher: pictures are matched by name or by a table, and unmatched ones are reported."""

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from teacher_cache import BuildOptions, Request, SpecError, build, open_teacher, prompt_key, sha256, source_of_teacher
from teacher_cache.teachers import Picture
from tests import fakes


def save(folder, name, seed=0, format="PNG"):
    folder.mkdir(exist_ok=True)
    stream = io.BytesIO()
    Image.open(io.BytesIO(fakes.png(seed))).save(stream, format)
    (folder / name).write_bytes(stream.getvalue())


def draw(folder, prompts, options=""):
    """Return each prompt's answer: the name of the file with its picture, or the failure's message."""
    files = {path.read_bytes(): path.name for path in folder.iterdir() if path.is_file()}
    requests = [Request(prompt, prompt, 0, 0) for prompt in prompts]
    answers = open_teacher(f"folder:{folder}{options}").draw(requests)
    return {a.image_key: files[a.data] if isinstance(a, Picture) else a.message for a in answers}


def test_pictures_are_found_by_the_words_of_their_prompt_or_by_its_key(tmp_path, cache, capsys):
    folder = tmp_path / "mine"
    prompts = ["A red cat!", "Üben, 日本 (2)", "the rest", "not there"]
    for seed, name in enumerate(
        ["a-red_cat.png", "üben 日本 2.PNG", f"{prompt_key('the rest')}.png", "nobody asked.png"]
    ):
        save(folder, name, seed)
    teacher = open_teacher(f"folder:{folder}")
    report = build(cache, prompts, teacher, fakes.encoder())
    assert (report.drawn, report.failed) == (3, {"permanent": 1})
    stored = {row["prompt"] for row in cache.images(source_of_teacher(teacher)).to_pylist()}
    assert stored == set(prompts[:3])
    (failure,) = cache.failures(source_of_teacher(teacher)).to_pylist()
    assert "no picture in" in failure["message"]
    assert "pictures that match no requested prompt: 1 (nobody asked.png)" in capsys.readouterr().err


def test_a_number_in_the_file_name_is_the_sample(tmp_path, cache):
    for sample in range(2):
        save(tmp_path / "mine", f"a cat.{sample}.png", sample)
    report = build(
        cache, ["a cat"], open_teacher(f"folder:{tmp_path / 'mine'}"), fakes.encoder(), BuildOptions(samples=2)
    )
    assert report.drawn == 2


def test_pictures_are_paired_by_a_table(tmp_path, cache):
    folder, table = tmp_path / "mine", tmp_path / "pairs.csv"
    for number in range(3):
        save(folder, f"{number}.png", number)
    table.write_text("text,picture\na cat,0.png\na dog,1.png\na cat,2.png\n")
    teacher = open_teacher(f"folder:{folder}?pairs={table}&prompt_column=text&file_column=picture")
    report = build(cache, ["a cat", "a dog"], teacher, fakes.encoder(), BuildOptions(samples=2))
    assert (report.drawn, report.failed) == (3, {"permanent": 1})


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "gone.png", "\0", "x" * 300, ""])
def test_a_pair_whose_file_is_not_in_the_folder_is_a_failure_with_its_row_and_the_others_go_on(tmp_path, file):
    save(tmp_path, "secret.png", 1)
    save(tmp_path / "mine", "a.png")
    table = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "a", "file": "a.png"}, {"prompt": "b", "file": file}, {"prompt": "c", "file": "a.png"}]
    table.write_text("\n".join(map(json.dumps, rows)))
    found = draw(tmp_path / "mine", ["a", "b", "c"], f"?pairs={table}")
    assert (found["a"], found["c"]) == ("a.png", "a.png")
    assert "pairs.jsonl: row 2, column 'file': expected a picture in" in found["b"]


def test_a_pair_whose_file_is_no_picture_is_a_failure_and_its_content_is_not_kept(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("secret")
    (tmp_path / "pairs.csv").write_text("prompt,file\na,notes.txt\n")
    found = draw(tmp_path / "mine", ["a"], f"?pairs={tmp_path / 'pairs.csv'}")
    assert "notes.txt: expected PNG" in found["a"]
    assert "secret" not in found["a"]


def test_two_folders_of_one_name_share_no_keys_unless_they_are_named(tmp_path):
    folders = [tmp_path / place / "midjourney" for place in ("one", "two")]
    for folder in folders:
        folder.mkdir(parents=True)
    own = [open_teacher(f"folder:{folder}").spec for folder in folders]
    assert own[0] != own[1]
    assert own[0]["name"].startswith("midjourney-")
    assert str(tmp_path) not in str(own)
    named = [open_teacher(f"folder:{folder}?name=v7").spec for folder in folders]
    assert named == [{"kind": "folder", "name": "v7"}] * 2
    # A folder that was moved keeps its keys by its old name.
    assert open_teacher(f"folder:{folders[1]}?name={own[0]['name']}").spec == own[0]


def test_the_keys_of_a_folder_do_not_depend_on_how_its_path_is_written(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    texts = ("folder:mine", "folder:./mine/", f"folder:{tmp_path}/mine", "folder:link")
    assert len({str(open_teacher(text).spec) for text in texts}) == 1


def test_the_error_for_a_folder_that_cannot_be_used_names_the_cause(tmp_path):
    with pytest.raises(SpecError, match="expected folder:DIR; there is no folder"):
        open_teacher(f"folder:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("name", "format"), [("a.gif", "GIF"), ("a.tif", "TIFF"), ("a.TIFF", "TIFF"), ("a.avif", "AVIF")]
)
def test_every_known_format_is_read_and_stored_unchanged(tmp_path, cache, name, format):
    save(tmp_path / "mine", name, 1, format)
    teacher = open_teacher(f"folder:{tmp_path / 'mine'}")
    assert build(cache, ["a"], teacher, fakes.encoder()).drawn == 1
    (row,) = cache.images(source_of_teacher(teacher)).to_pylist()
    assert row["image_sha256"] == sha256((tmp_path / "mine" / name).read_bytes())
    assert row["suffix"] == {"GIF": "gif", "TIFF": "tif", "AVIF": "avif"}[format]


def test_the_suffix_of_a_picture_is_that_of_its_content(tmp_path):
    save(tmp_path / "mine", "a.png", 1, "JPEG")
    save(tmp_path / "mine", "b", 2, "PNG")
    requests = [Request(prompt, prompt, 0, 0) for prompt in "ab"]
    answers = open_teacher(f"folder:{tmp_path / 'mine'}").draw(requests)
    assert [answer.suffix for answer in answers] == ["jpg", "png"]


def test_a_file_that_is_not_read_is_named_in_its_failure_and_among_the_unmatched(tmp_path, capsys):
    folder = tmp_path / "mine"
    save(folder, "a-cat.bmp", 1, "BMP")
    (folder / "a dog.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "a cow.png").write_bytes(b"<html>")
    (folder / "nobody.svg").write_text("<svg/>")
    (folder / "a fox.txt").write_text("a caption")
    found = draw(folder, ["A cat", "a dog", "a cow", "a fox"])
    for prompt, name in {
        "A cat": "a-cat.bmp",
        "a dog": "a dog.heic",
        "a cow": "a cow.png",
        "a fox": "a fox.txt",
    }.items():
        assert name in found[prompt]
        assert "PNG, JPEG, WEBP, GIF, AVIF, TIFF" in found[prompt]
    assert "match no requested prompt: 1 (nobody.svg)" in capsys.readouterr().err


def test_companions_and_damaged_files_do_not_stop_the_others(tmp_path, cache, capsys):
    folder = tmp_path / "mine"
    for seed, name in enumerate(["a cat.png", "a dog.png", "a fox.png", "._.png"]):
        save(folder, name, seed)
    companion = b"\0\x05\x16\x07\0\x02\0\0Mac OS X"
    for name in ("._a cat.png", "._a dog.png", "._nobody.png"):
        (folder / name).write_bytes(companion)
    (folder / "a dog.png").write_bytes((folder / "a dog.png").read_bytes()[:60])
    (folder / "a cow.png").mkdir()
    (folder / "a gnu.png").symlink_to(folder / "nowhere")
    teacher = open_teacher(f"folder:{folder}")
    prompts = ["a cat", "a dog", "a fox", "a cow", "a gnu", "._", "._b cat"]
    report = build(cache, prompts, teacher, fakes.encoder())
    assert (report.drawn, report.failed) == (3, {"permanent": 3, "undecodable": 1})
    messages = {row["prompt"]: row["message"] for row in cache.failures(source_of_teacher(teacher)).to_pylist()}
    assert "a dog.png" in messages["a dog"]
    assert "._nobody" not in capsys.readouterr().err


def test_a_folder_whose_name_is_no_text_can_be_used(tmp_path, cache):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xffd"))
    save(folder, "a cat.png")
    teacher = open_teacher(f"folder:{folder}")
    assert build(cache, ["a cat", "a dog"], teacher, fakes.encoder()).drawn == 1
