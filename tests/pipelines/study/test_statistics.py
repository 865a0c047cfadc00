"""The statistics agree with closed forms, and with simulated studies whose effect is known."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from pipelines.study.statistics import holm, holm_levels, judge, paired, smallest_detectable, verdicts

STUDIES = 1000


def simulated(effects, seeds=5, sd=0.01, studies=STUDIES, seed=0):
    """Return (studies, M, seeds) differences of one arm to M others; each arm has independent noise."""
    generator = np.random.Generator(np.random.PCG64(seed))
    arm = generator.normal(0, sd, (studies, 1, seeds))
    return np.asarray(effects)[None, :, None] + arm - generator.normal(0, sd, (studies, len(effects), seeds))


def test_paired_differences_agree_with_scipy_and_with_the_textbook():
    differences = np.array([0.02, 0.01, 0.04, -0.01, 0.03])
    found = paired(differences)
    expected = stats.ttest_1samp(differences, 0)
    interval = expected.confidence_interval(0.95)
    half = found.half_width(0.05)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.mean - half, found.mean + half) == pytest.approx((interval.low, interval.high))
    # by hand: mean 0.018, variance (4+64+484+784+144)e-6 / 4 = 3.7e-4, t(.975, 4) = 2.7764451
    assert found.sd == pytest.approx(np.sqrt(3.7e-4))
    assert half == pytest.approx(2.7764451 * np.sqrt(3.7e-4 / 5))
    assert found.effect == pytest.approx(0.018 / np.sqrt(3.7e-4))


def test_p_is_0_or_1_for_differences_without_spread_and_1_for_one_seed():
    found = paired(np.array([[0.0] * 5, [0.01] * 5]))
    assert found.p.tolist() == [1, 0]
    assert np.isnan(found.effect[0])
    assert paired(np.array([0.3])).p == 1


def test_holm_agrees_with_statsmodels_and_its_intervals_agree_with_its_tests():
    generator = np.random.Generator(np.random.PCG64(1))
    for count in (1, 2, 5, 9):
        for _ in range(3):  # statsmodels collects garbage in every call, which takes long in a large process
            differences = generator.normal(0.01, 0.01, (count, 5))
            found = paired(differences)
            rejected, adjusted, *_ = multipletests(found.p, 0.05, "holm")
            np.testing.assert_allclose(holm(found.p), adjusted)
            half = found.half_width(holm_levels(found.p, 0.05))
            np.testing.assert_array_equal(np.abs(found.mean) > half, rejected)


def test_holm_levels_by_hand():
    # smallest p first: .05/3, .05/2, .05; .03 > .025 isn't rejected, and what follows is judged no more leniently
    levels = holm_levels(np.array([0.04, 0.001, 0.03]), 0.05)
    np.testing.assert_allclose(levels, [0.025, 0.05 / 3, 0.025])


def test_the_smallest_detectable_difference_is_found_at_the_stated_power():
    sd = 0.01
    difference = smallest_detectable(sd, 5, 0.05, 0.8)
    # closed form: the noncentral t's tail beyond the critical value is the power
    critical = stats.t.ppf(0.975, 4)
    assert stats.nct.sf(critical, 4, difference / sd * np.sqrt(5)) == pytest.approx(0.8, abs=1e-3)
    drawn = np.random.Generator(np.random.PCG64(2)).normal(difference, sd, (20_000, 1, 5))
    assert (judge(drawn, 0.05, 1e-6) == "helped").mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("effects", [[0.0], [0.0, 0.0], [0.0, 0.05]])
@pytest.mark.parametrize("seeds", [5, 10])
def test_without_an_effect_at_most_65_of_1000_studies_say_helped(effects, seeds):
    assert (judge(simulated(effects, seeds), 0.05, 0.005) == "helped").sum() <= 65


def test_the_verdict_finds_a_planted_effect_at_the_stated_power():
    sd = 0.01
    # each of two comparisons is judged at .025 at the least: planted so large that either one fails in 5 % at most
    planted = smallest_detectable(sd * np.sqrt(2), 5, 0.025, 0.95)
    found = judge(simulated([planted, planted], sd=sd), 0.05, 0.005) == "helped"
    assert found.mean() >= 0.9 - 0.03


def test_a_difference_that_is_far_below_the_margin_did_not_help():
    found = judge(simulated([0.0, 0.0], seeds=10, sd=0.001), 0.05, 0.01)
    assert (found == "did not help").mean() > 0.95
    harmful = judge(simulated([-0.05, -0.05], sd=0.001), 0.05, 0.01)
    assert (harmful == "did not help").all()


def test_an_arm_that_equals_shuffled_did_not_help():
    found = judge(simulated([0.1, 0.0], sd=0.001), 0.05, 0.01)
    assert (found == "did not help").mean() > 0.9


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_under_five_seeds_the_verdict_cannot_tell(seeds):
    assert set(judge(simulated([0.5, 0.5], seeds, sd=1e-4), 0.05, 0.01)) == {"cannot tell"}
    assert verdicts(np.array([0.1]), np.array([0.2]), 0.01, seeds) == "cannot tell"
