"""Tuning of alpha, beta and width on made-up landscapes, and its error rates against the report's."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.decode.stage import Params
from hlas.decode.tune import Grid, Rates, Tuned, Weights, error_rates, tune, tune_width
from hlas.errors import UserError
from hlas.report.metrics import score

GRID = Grid(
    alpha=(0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9), beta=(-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
)
WIDTH = 120


class Landscape:
    """A valley of error rates that remembers what was asked; a narrow search is worse, and its valley lies aside."""

    def __init__(self, alpha: float = 0.5, beta: float = 1.0, aside: float = 0.0) -> None:
        self.alpha, self.beta, self.aside, self.asked = alpha, beta, aside, list[tuple[Weights, int]]()

    def __call__(self, weights: Sequence[Weights], width: int) -> list[Rates]:
        self.asked += [(w, width) for w in weights]
        return [Rates(self.value(w, width), 0.1) for w in weights]

    def value(self, w: Weights, width: int) -> float:
        alpha, worse = (self.alpha, 0.0) if width == WIDTH else (self.alpha + self.aside, 0.05)
        # it runs diagonally: more alpha wants more beta
        a, b = w.alpha - alpha, (w.beta - self.beta) / 5
        return 0.2 + worse + 0.3 * (a - 0.5 * b) ** 2 + 0.2 * b**2

    @property
    def wide(self) -> list[Weights]:
        return [weights for weights, width in self.asked if width == WIDTH]


@given(st.sampled_from(GRID.alpha), st.sampled_from(GRID.beta), st.floats(-0.1, 0.1))
def test_a_few_decodes_come_near_to_the_best_of_all(alpha: float, beta: float, aside: float) -> None:
    landscape = Landscape(alpha, beta, aside)
    tuned = tune(GRID, WIDTH, landscape)
    assert len(set(landscape.asked)) == len(landscape.asked) <= 5 * 3 + 4 and len(landscape.wide) == 4
    best = min(landscape.value(w, WIDTH) for w in GRID.points())
    assert tuned.chosen.redecoded and best <= tuned.chosen.rates.wer < best + 0.012
    # the worst of the grid is 1.6 above
    assert [p.weights for p in tuned.table] == GRID.points()
    for point in tuned.table:
        exact = landscape.value(point.weights, WIDTH)
        assert point.redecoded == (point.weights in landscape.wide)
        assert point.rates.wer == (exact if point.redecoded else pytest.approx(exact, abs=0.15))


def test_a_small_grid_is_decoded_whole() -> None:
    landscape = Landscape()
    tuned = tune(Grid((0.3, 0.5), (0.0, 1.0)), WIDTH, landscape)
    assert tuned.chosen.weights == Weights(0.5, 1.0) and tuned.decodes == 4 == len(landscape.wide)
    assert all(p.redecoded for p in tuned.table)


def test_a_narrow_search_is_not_narrowed() -> None:
    landscape = Landscape(0.5, 1.0)
    tuned = tune(GRID, 12, landscape)
    assert {width for _, width in landscape.asked} == {12} and len(set(landscape.asked)) == len(landscape.asked)
    assert tuned.decodes == len(landscape.asked)


def test_one_line_of_a_grid() -> None:
    for grid in (Grid(GRID.alpha, (1.0,)), Grid((0.5,), GRID.beta)):
        tuned = tune(grid, WIDTH, Landscape(0.5, 1.0))
        assert tuned.chosen.weights == Weights(0.5, 1.0) and len(tuned.table) == 10


def test_ties_go_to_the_lower_cer_then_to_the_smaller_weights() -> None:
    def flat(weights: Sequence[Weights], width: int) -> list[Rates]:
        return [Rates(0.3, 0.1) for _ in weights]

    assert tune(GRID, WIDTH, flat).chosen.weights == Weights(0.1, -0.5)

    def cer_decides(weights: Sequence[Weights], width: int) -> list[Rates]:
        return [Rates(0.3, 0.05 if w == Weights(0.5, 1.5) else 0.1) for w in weights]

    assert tune(GRID, WIDTH, cer_decides).chosen.weights == Weights(0.5, 1.5)


def test_a_best_value_at_the_edge_is_told() -> None:
    def at(alpha: float, beta: float, grid: Grid = GRID) -> Tuned:
        return tune(grid, WIDTH, Landscape(alpha, beta))

    assert at(0.5, 1.5).at_edge == ()
    assert at(1.9, 1.5).at_edge == ("alpha",)
    assert at(0.1, 4.0).at_edge == ("alpha", "beta")
    assert tune(Grid((0.5,), (1.0,)), WIDTH, Landscape()).at_edge == ()
    # below an alpha of 0 there is nothing
    assert at(0.0, 0.0, Grid((0.0, 0.5), (-1.0, 0.0, 1.0))).at_edge == ()


def test_the_width_is_chosen_at_the_best_weights() -> None:
    asked = []

    def decode(weights: Sequence[Weights], width: int) -> list[Rates]:
        asked.append((tuple(weights), width))
        return [Rates({50: 0.25, 100: 0.22, 200: 0.21, 400: 0.21}[width], 0.1) for _ in weights]

    outcome = tune(Grid((0.5,), (1.0,)), 100, decode)
    tuned = tune_width(outcome, (50, 100, 200, 400), 100, decode)
    assert tuned.chosen.width == 200 and tuned.chosen.weights == Weights(0.5, 1.0)  # 400 is no better
    assert [(p.width, p.rates.wer) for p in tuned.table] == [(100, 0.22), (50, 0.25), (200, 0.21), (400, 0.21)]
    assert [width for _, width in asked] == [100, 50, 200, 400]
    # the search's own width is only chosen where it is in the grid
    assert tune_width(outcome, (50,), 100, decode).chosen.width == 50


def test_a_test_split_is_refused() -> None:
    for name in ("test", "test_other"):
        with pytest.raises(ValueError, match="tune on dev"):
            Params(backend="pyctcdecode", tune_on=name)
    assert Params(backend="pyctcdecode", tune_on="dev").tune_on == "dev"


def test_given_and_tuned_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="given or tuned"):
        Params(backend="pyctcdecode", tune_on="dev", alpha=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": ()},
        {"alpha": (0.5, 0.5)},
        {"beta": (1.0, 0.0)},
        {"alpha": (-0.1,)},
        {"width": (200, 100)},
        {"width": (0,)},
    ],
)
def test_a_grid_rises(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Grid(**wrong)  # type: ignore[arg-type]  # a wrong value is the point


texts = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4).map(" ".join)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_rates_are_the_reports(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    if not any(references):
        with pytest.raises(UserError, match="no reference"):
            error_rates(references, hypotheses)
        return
    rates, expected = error_rates(references, hypotheses), score(references, hypotheses)
    assert (rates.wer, rates.cer) == pytest.approx((expected.wer, expected.cer))
