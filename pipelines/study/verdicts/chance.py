"""The interval of a difference that counts both kinds of chance: which seeds, and which test questions were drawn.

A difference of question q with seed s is taken as d + a_s + b_q + e_sq, so that the variance of the mean over S seeds
and Q questions is var(a)/S + var(b)/Q + var(e)/(S Q) (crossed random effects; Owen 2007). It is estimated as
V_seeds + V_questions - V_both, as for two-way clusters (Cameron, Gelbach and Miller 2011), but as no less than the
larger one of V_seeds and V_questions. Few seeds are met by Student's t, with half of the way from the S - 1 degrees of
freedom of the seeds to those of Satterthwaite (1946): with three to five seeds, his alone let up to 5.7 instead of 5 of
100 intervals miss, and these none too many (tests/pipelines/study/test_chance.py). Questions may share objects; their
variance is then that of clusters, or of pairs of objects (Aronow, Samii and Assenova 2015). All functions are pure;
leading dimensions are independent studies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.study.verdicts.clusters import Clusters


@dataclass(frozen=True)
class Chance:
    """Variances (...) of the mean of differences over S seeds and Q questions, each with its degrees of freedom.

    `questions` is the variance that another draw of questions brings for the same seeds; `both` is that of another draw
    of seeds and questions.
    """

    mean: np.ndarray
    both: np.ndarray
    degrees: np.ndarray
    questions: np.ndarray
    question_degrees: float

    @property
    def p(self) -> np.ndarray:
        """The two-sided p of a mean of zero, (...)."""
        from scipy import stats

        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stats.t.sf(np.abs(self.mean) / np.sqrt(self.both), self.degrees)
        found: np.ndarray = np.where(np.isnan(p), 1.0, p)
        return found

    def half_width(self, level: np.ndarray | float) -> np.ndarray:
        """Return half the width of the (1 - level) interval over seeds and questions."""
        return _half(self.both, self.degrees, level)

    def question_half_width(self, level: np.ndarray | float) -> np.ndarray:
        """Return half the width of the (1 - level) interval over questions alone."""
        return _half(self.questions, np.asarray(self.question_degrees), level)


def chance_of(differences: np.ndarray, parts: np.ndarray, clusters: Clusters) -> Chance:
    """Return the chance in differences (..., S) of a metric, with what each question adds to them: parts (..., S, Q).

    The parts of a metric that is a mean over questions are the questions' differences; those of another metric are
    differences of `metric_parts`. With one seed, or with questions that are one single cluster, variances are infinite.
    """
    *_, seeds, count = parts.shape
    mean = differences.mean(-1)
    of_seed = parts - parts.mean(-1, keepdims=True)
    of_question = of_seed.mean(-2)
    questions = clusters.squares(of_question) / count**2
    if seeds < 2 or clusters.degrees <= 0:
        endless = np.full(mean.shape, np.inf)
        return Chance(mean, endless, np.ones(mean.shape), endless if clusters.degrees <= 0 else questions, 1.0)
    by_seed = differences.var(-1, ddof=1) / seeds
    left = clusters.squares(of_seed - of_question[..., None, :]).sum(-1) / count**2 / (seeds * (seeds - 1))
    both = np.maximum(by_seed + questions - left, np.maximum(by_seed, questions))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = by_seed**2 / (seeds - 1) + questions**2 / clusters.degrees
        degrees = np.where(spread > 0, both**2 / spread, float(seeds - 1))
    degrees = np.maximum((degrees + np.minimum(degrees, seeds - 1)) / 2, 1.0)
    return Chance(mean, both, degrees, questions, max(1.0, clusters.degrees))


def _half(variance: np.ndarray, degrees: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    from scipy import stats

    width: np.ndarray = stats.t.ppf(1 - np.asarray(level) / 2, degrees) * np.sqrt(variance)
    return width
