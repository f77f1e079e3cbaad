"""Statistics of replicas, against numbers that others have computed."""

import math

import pytest
from scipy import stats

from app.groups.statistics import outliers, summary, t_quantile

HUGE = 1.7e308


def test_quantiles_are_those_of_students_t():
    for freedom in range(1, 100):
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12), freedom


def test_a_summary_has_mean_spread_and_interval():
    # Mean 5, sample standard deviation sqrt(32/7); t(0.975, 7) = 2.365 as tables have it.
    found = summary("val/rmse_f", dict(enumerate([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])))
    assert (found.count, found.mean, found.std) == (8, 5.0, pytest.approx(2.13809, abs=1e-5))
    assert found.high - found.mean == pytest.approx(2.365 * 2.13809 / math.sqrt(8), abs=1e-3)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    assert found.outliers == [7]


def test_what_is_not_finite_is_an_outlier_and_in_no_mean():
    found = summary("loss", {1: 1.0, 2: None, 3: 3.0})
    assert (found.count, found.mean, found.outliers) == (2, 2.0, [2])
    assert found.values == {1: 1.0, 2: None, 3: 3.0}


@pytest.mark.parametrize(
    ("values", "count", "mean"), [({}, 0, None), ({1: None}, 0, None), ({1: 4.0}, 1, 4.0), ({1: None, 2: 4.0}, 1, 4.0)]
)
def test_too_few_values_have_no_spread(values, count, mean):
    found = summary("loss", values)
    assert (found.count, found.mean, found.std, found.low, found.high) == (count, mean, None, None, None)


def test_the_largest_numbers_overflow_nothing():
    found = summary("loss", {1: HUGE, 2: -HUGE, 3: HUGE})
    assert found.mean == pytest.approx(HUGE / 3)
    assert found.low is None or math.isfinite(found.low)


def test_a_value_far_from_the_others_is_an_outlier():
    # Of 1 to 8 and x > 8 the median is 5 and the median distance from it 2: 0.6745 * (x - 5) / 2 is 3.5 at x = 15.38.
    values = dict(enumerate(range(1, 9)))
    assert outliers({**values, 8: 15.3}) == []
    assert outliers({**values, 8: 15.4}) == [8]


def test_where_most_values_are_equal_the_mean_distance_counts():
    assert outliers({1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}) == []
    assert outliers({**dict.fromkeys(range(5), 1.0), 5: 1.001}) == [5]


def test_it_takes_four_values_to_call_one_an_outlier():
    assert outliers({1: 1.0, 2: 1.001, 3: 1.3}) == []
    assert outliers({1: 1.0, 2: 1.001, 3: 1.3, 4: None}) == [4]
    assert outliers({1: 1.0, 2: 1.001, 3: 1.3, 4: 1.002}) == [3]
