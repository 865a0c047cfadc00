"""The coverage report says how many rows lack a feature, why, and which ones, a line each."""

from distill.dataset.coverage import Coverage


def test_the_report_has_a_line_per_fact_that_there_is_and_none_besides():
    assert Coverage(5, 5, 0, 0, (), {}).in_words() == "coverage: 5 of 5 training rows have a feature"
    assert Coverage(5, 4, 1, 0, ("a dog",), {}).in_words().splitlines() == [
        "coverage: 4 of 5 training rows have a feature",
        "  missing: 1",
        "  for example: 'a dog'",
    ]
    full = Coverage(9, 4, 3, 2, ("x" * 90 + "y", "it's"), {"refused": 2, "permanent": 1}, duplicates=1, samples=2)
    assert full.in_words().splitlines() == [
        "coverage: 4 of 9 training rows have features of 2 pictures",
        "  missing: 3 (the teacher failed: permanent 1, refused 2)",
        "  not finite or zero: 2",
        "  sharing a feature with an earlier row: 1",
        f"  for example: {'x' * 90!r}",
        '''  for example: "it's"''',
    ]
    assert not full.is_full
