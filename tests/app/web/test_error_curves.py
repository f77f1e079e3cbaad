"""Errors on held-out data, drawn by step."""

from app.web.error_curves import HEIGHT, WIDTH, curves
from app.wire.measuring import Measured, Quantity

QUANTITIES = [
    Quantity(key="rmse_f", title="Force RMSE", unit="eV/Å", headline=True),
    Quantity(key="mae_f", title="Force MAE", unit="eV/Å"),
]


def measured(job: int, step: int, error: float | None, data: str = "d") -> Measured:
    errors = {"rmse_f": error, "mae_f": 1.0}
    return Measured(
        job=job, name="t", state="completed", step=step, data=[data], data_digest=data, quantities=QUANTITIES, errors=errors,
    )  # fmt: skip


def test_errors_fall_from_the_upper_left_to_the_lower_right_by_decades() -> None:
    (curve,) = curves([measured(3, 300, 0.01), measured(2, 200, 0.1), measured(1, 100, 1.0)])
    assert (curve.title, curve.first, curve.last, curve.low, curve.high) == ("Force RMSE", 100, 300, 0.01, 1.0)
    assert [(point.x, point.y) for point in curve.points] == [(0, 0), (WIDTH / 2, HEIGHT / 2), (WIDTH, HEIGHT)]
    assert curve.path == "M0 0L150 45L300 90"
    assert curve.points[1].words == "step 200: 0.1 eV/Å"


def test_one_checkpoint_makes_no_curve_and_other_data_are_another_one() -> None:
    tests = [measured(4, 200, 0.1), measured(3, 100, 0.2), measured(2, 100, 0.3, "e")]
    assert [curve.data for curve in curves(tests)] == [["d"]]
    assert curves(tests[1:]) == []


def test_the_newest_job_counts_and_what_is_not_finite_is_left_out() -> None:
    tests = [measured(5, 200, 0.5), measured(4, 300, None), measured(3, 200, 0.1), measured(2, 100, 0.5)]
    (curve,) = curves(tests)
    assert [(point.x, point.y) for point in curve.points] == [(0, HEIGHT), (WIDTH, HEIGHT)]
