import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from app.jobs.downsampling import MIN_POINTS, downsample
from app.jobs.metric_blocks import decode_outline, decode_steps, encode_outline, encode_steps
from app.jobs.series import Series, concatenate

FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)
STEPS = st.lists(st.integers(0, 2**53), unique=True, min_size=1, max_size=300).map(sorted)


def series(values) -> Series:
    return Series(np.arange(1, len(values) + 1), np.asarray(values, np.float64))


@given(st.lists(FLOATS, min_size=1, max_size=400), st.integers(MIN_POINTS, 60))
def test_few_points_hold_the_ends_and_the_extremes(values, points):
    whole = series(values)
    few = downsample(whole, points)
    assert len(few) <= points
    assert set(few.steps) <= set(whole.steps)
    assert {1, len(values)} <= set(few.steps)
    for step, value in zip(few.steps, few.values, strict=True):
        np.testing.assert_equal(value, whole.values[step - 1])
    finite = whole.values[np.isfinite(whole.values)]
    if len(finite):
        kept = few.values[np.isfinite(few.values)]
        assert kept.min() == finite.min()
        assert kept.max() == finite.max()


@given(st.lists(FLOATS, min_size=1, max_size=2000))
def test_an_outline_holds_ends_and_extremes_and_survives_its_encoding(values):
    whole = series(values)
    few = decode_outline(encode_outline(whole))
    assert {1, len(values)} <= set(few.steps)
    np.testing.assert_array_equal(few.values, whole.values[few.steps - 1])
    finite = whole.values[np.isfinite(whole.values)]
    if len(finite):
        kept = few.values[np.isfinite(few.values)]
        assert (kept.min(), kept.max()) == (finite.min(), finite.max())


def test_an_outline_is_short():
    assert len(decode_outline(encode_outline(series(np.sin(np.arange(32_768)))))) <= 32_768 // 64 + 2


def test_short_series_are_left_alone():
    whole = series([1.0, np.nan, np.inf])
    assert downsample(whole, MIN_POINTS) is whole


def test_a_run_that_diverged_shows_where():
    values = np.ones(10_000)
    values[6_000:] = np.nan
    few = downsample(series(values), 100)
    assert {6_001, 10_000} <= set(few.steps[np.isnan(few.values)])
    assert 6_000 in few.steps or 5_999 in few.steps or few.steps[few.steps < 6_001].max() > 5_800


def test_nothing_but_nan_is_still_drawn():
    few = downsample(series([np.nan] * 1_000), 50)
    assert list(few.steps) == [1, 1_000]


@given(STEPS)
@example([0, 2**53])
def test_steps_survive_their_encoding(steps):
    array = np.asarray(steps, np.int64)
    decoded = decode_steps(steps[0], steps[-1], len(steps), encode_steps(array))
    np.testing.assert_array_equal(decoded, array)


@given(st.lists(st.lists(st.integers(0, 50), unique=True, max_size=20).map(sorted), max_size=5))
def test_of_several_values_at_one_step_the_last_wins(parts):
    expected: dict[int, float] = {}
    built = []
    for number, steps in enumerate(parts):
        built.append(Series(np.asarray(steps, np.int64), np.full(len(steps), float(number))))
        expected.update(dict.fromkeys(steps, float(number)))
    joined = concatenate(built)
    assert dict(zip(joined.steps.tolist(), joined.values.tolist(), strict=True)) == expected
    assert joined.steps.tolist() == sorted(expected)
