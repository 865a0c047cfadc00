"""The judgement of a pilot: intervals of what pictures and texts know, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipelines.pilot.knowledge import Known, Labelled, known_by
from pipelines.pilot.looks import Look, rows_for

Worth = Literal["worth it", "not worth it", "cannot tell yet"]


@dataclass(frozen=True)
class Gain:
    """A mean score or a difference of two, with its interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """What a pilot found. Scores are accuracies, or shares of explained variance; `text` and what is compared with it
    are None without a text embedding. `more_rows` is the number of rows at which "cannot tell yet" may end."""

    worth: Worth
    sentence: str
    score: str
    rows: int
    answers: int
    confidence: float
    pictures: float
    shuffled: float
    text: float | None
    both: float | None
    pictures_over_shuffled: Gain
    pictures_over_text: Gain | None
    both_over_text: Gain | None
    more_rows: int | None


def judge_pilot(
    rows: Labelled, pictures: np.ndarray, text: np.ndarray | None, look: Look, *, level: float, margin: float
) -> Judgement:
    """Judge features of pictures (N, L) and, if there are some, of the prompts' texts (N, M), of the look's N rows.

    Worth it: the interval of what pictures score above shuffled ones is above zero. Not worth it: it is below `margin`.
    """
    seen = known_by([pictures], rows)
    read = known_by([text], rows) if text is not None else None
    together = known_by([pictures, text], rows) if text is not None else None
    shuffled = float(seen.shuffled.mean())
    gain = _gain(seen.scores - shuffled, rows, look, float(seen.shuffled.std(ddof=1)))
    over_text = _gain(seen.scores - read.scores, rows, look) if read else None
    added = _gain(together.scores - read.scores, rows, look) if read and together else None
    worth: Worth = "worth it" if gain.low > 0 else "not worth it" if gain.high < margin else "cannot tell yet"
    more = None
    if worth == "cannot tell yet":
        wanted = max(abs(gain.mean), margin - gain.mean)
        more = rows_for(level, (gain.high - gain.low) / 2, look, wanted)
    score = "explained variance" if rows.kind == "regression" else "accuracy"
    return Judgement(
        worth=worth,
        sentence=_sentence(worth, score, gain, over_text, added, margin, more),
        score=score,
        rows=look.rows,
        answers=len(seen.scores),
        confidence=1 - look.level,
        pictures=float(seen.scores.mean()),
        shuffled=shuffled,
        text=_mean(read),
        both=_mean(together),
        pictures_over_shuffled=gain,
        pictures_over_text=over_text,
        both_over_text=added,
        more_rows=more,
    )


def _mean(known: Known | None) -> float | None:
    return float(known.scores.mean()) if known else None


def _gain(differences: np.ndarray, rows: Labelled, look: Look, spread: float = 0.0) -> Gain:
    """Return the mean of differences (A,) with its interval at the look's level.

    The standard error is that of clusters, or the `spread` over permutations, whichever is larger: the first one knows
    which rows were drawn, the second one what a model learns from so few of them by chance.
    """
    from scipy.stats import norm

    mean = float(differences.mean())
    sums = np.bincount(rows.answer_clusters, weights=differences - mean)
    error = float(np.sqrt((sums**2).sum())) / len(differences)
    half = float(norm.isf(look.level / 2)) * max(error, spread)
    return Gain(mean, mean - half, mean + half)


def _sentence(
    worth: Worth, score: str, gain: Gain, over_text: Gain | None, added: Gain | None, margin: float, more: int | None
) -> str:
    found = f"pictures score {gain.mean:+.3f} {score} above shuffled ones ({gain.low:+.3f} to {gain.high:+.3f})"
    if worth == "not worth it":
        return f"Not worth it: {found}, which is less than the margin of {margin:g}."
    if worth == "cannot tell yet":
        ask = f"draw {more:,} in all" if more else "more than 100,000 would be needed"
        return f"Cannot tell yet: {found}; {ask}."
    beside = ""
    if over_text and over_text.high < 0:
        beside = " The prompts' text embedding, which costs no picture, predicts the labels better"
        beside += ", and pictures add to it." if added and added.low > 0 else "; that pictures add to it is not seen."
    elif added and added.low > 0:
        beside = " They add to what the prompts' text embedding knows."
    return f"Worth it: {found}.{beside}"
