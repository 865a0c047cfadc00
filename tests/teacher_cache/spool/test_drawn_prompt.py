"""The spool keeps the row's text and what was drawn in its place, also in a file that an earlier armada made."""

import sqlite3

from teacher_cache.spool.budget import Budget
from teacher_cache.spool.database import SCHEMA
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool
from teacher_cache.teachers import Picture, Request

OLD_COLUMN = ",\n  drawn_prompt TEXT NOT NULL DEFAULT ''"


def test_a_spool_of_an_earlier_armada_takes_drawn_prompts_and_keeps_its_rows(tmp_path):
    assert OLD_COLUMN in SCHEMA
    with sqlite3.connect(tmp_path / "spool.sqlite") as old:
        old.executescript(SCHEMA.replace(OLD_COLUMN, "") + "PRAGMA user_version=2;")
        old.execute(
            "INSERT INTO rows VALUES ('old', 't', 'a text', 'p', 0, 'failed', NULL, 1, '', '', 0, 0, 'refused', 'no')"
        )
    old.close()
    with Spool(tmp_path) as spool:
        for key, recipe_text in (("new", "a text"), ("plain", None)):
            wanted = Wanted(Request(key, "drawn for a text", 0, 1), "p", recipe_text=recipe_text)
            assert spool.claim("t", wanted, Budget(), 0) == "granted"
            spool.record([Picture(key, b"picture", "png")])
        found = {row.image_key: (row.prompt, row.drawn_prompt) for row in spool.waiting("t", "drawn", 9)}
        assert found == {"new": ("a text", "drawn for a text"), "plain": ("drawn for a text", "")}
        assert [(row.prompt, row.drawn_prompt) for row in spool.waiting("t", "failed", 9)] == [("a text", "")]
    with Spool(tmp_path) as again:  # opened by an armada that has the column
        assert again.count("t", "drawn") == 2


def test_calls_of_several_sources_count_under_one_cap(tmp_path):
    with Spool(tmp_path) as spool:
        for number, teacher in enumerate(("t", "r", "t")):
            wanted = Wanted(Request(f"k{number}", "x", 0, 1), "p")
            budget = Budget(max_calls=2, shared=("r",) if teacher == "t" else ("t",))
            assert spool.claim(teacher, wanted, budget, 0) == ("granted" if number < 2 else "spent")
        assert spool.spent("t") == (1, 0.0)
        assert spool.spent("t", "r") == (2, 0.0)
