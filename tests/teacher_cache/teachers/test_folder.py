"""The folder teacher: pictures are matched by name or by a table, and unmatched ones are reported."""

import pytest

from teacher_cache import ArmadaError, BuildOptions, SpecError, build, open_teacher, prompt_key, source_of_teacher
from teacher_cache.teachers.folder import words
from tests import fakes


def save(folder, name, seed=0):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(fakes.png(seed))


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


@pytest.mark.parametrize("file", ["../secret.png", "/etc/passwd", "gone.png", "notes.txt"])
def test_a_pair_whose_file_is_outside_the_folder_or_no_picture_is_an_error_with_its_row(tmp_path, file):
    save(tmp_path, "secret.png")
    save(tmp_path / "mine", "a.png")
    (tmp_path / "mine" / "notes.txt").write_text("x")
    table = tmp_path / "pairs.csv"
    table.write_text(f"prompt,file\na,a.png\nb,{file}\n")
    with pytest.raises(ArmadaError, match=r"pairs\.csv: row 2, column 'file': expected a picture"):
        _ = open_teacher(f"folder:{tmp_path / 'mine'}?pairs={table}")._files


def test_the_spec_contains_the_folders_name_and_not_its_path(tmp_path):
    specs = []
    for place in ("one", "two"):
        (tmp_path / place / "midjourney").mkdir(parents=True)
        specs.append(open_teacher(f"folder:{tmp_path / place / 'midjourney'}").spec)
    assert specs[0] == specs[1] == open_teacher(f"folder:{tmp_path / 'one'}?name=midjourney").spec


def test_the_error_for_a_folder_that_cannot_be_used_names_the_cause(tmp_path):
    with pytest.raises(SpecError, match="expected folder:DIR; there is no folder"):
        open_teacher(f"folder:{tmp_path / 'nowhere'}")
    save(tmp_path / "mine", "a cat.png")
    save(tmp_path / "mine", "A-Cat.png")
    with pytest.raises(ArmadaError, match="the same words as"):
        _ = open_teacher(f"folder:{tmp_path / 'mine'}")._files


def test_texts_are_compared_by_letters_and_digits():
    assert words("  A red/blue cat: No. 2!_") == "a-red-blue-cat-no-2"
