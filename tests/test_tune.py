"""Tuning of alpha and beta on made-up landscapes, and its error rates against the report's."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlas.decode.stage import Params
from hlas.decode.tune import Grid, Rates, Tuned, Weights, error_rates, tune
from hlas.errors import UserError
from hlas.report.metrics import score

GRID = Grid(alpha=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0), beta=(-1.0, 0.0, 1.0, 2.0, 3.0))


class Landscape:
    """A function of the weights that remembers where it was asked."""

    def __init__(self, alpha: float = 0.0, beta: float = 0.0) -> None:
        self.alpha, self.beta, self.asked = alpha, beta, list[Weights]()

    def __call__(self, weights: Sequence[Weights]) -> list[Rates]:
        self.asked += weights
        return [Rates(self.value(w), 0.1) for w in weights]

    def value(self, w: Weights) -> float:
        # a valley that runs diagonally: more alpha wants more beta
        return 0.2 + (w.alpha - self.alpha - 0.2 * (w.beta - self.beta)) ** 2 + 0.01 * (w.beta - self.beta) ** 2


@given(st.sampled_from(GRID.alpha), st.sampled_from(GRID.beta))
def test_the_valleys_bottom_is_found_without_asking_twice(alpha: float, beta: float) -> None:
    landscape = Landscape(alpha=alpha, beta=beta)
    tuned = tune(GRID, landscape)
    assert tuned.chosen.weights == Weights(alpha, beta)
    assert len(set(landscape.asked)) == len(landscape.asked) == len(tuned.table) < 30
    assert {p.weights for p in tuned.table} == set(landscape.asked)


def test_ties_go_to_the_lower_cer_then_to_the_smaller_weights() -> None:
    def flat(weights: Sequence[Weights]) -> list[Rates]:
        return [Rates(0.3, 0.1) for _ in weights]

    assert tune(GRID, flat).chosen.weights == Weights(0.0, -1.0)

    def cer_decides(weights: Sequence[Weights]) -> list[Rates]:
        return [Rates(0.3, 0.05 if w == Weights(0.4, 1.0) else 0.1) for w in weights]

    assert tune(GRID, cer_decides).chosen.weights == Weights(0.4, 1.0)


def test_a_best_value_at_the_edge_is_told() -> None:
    def at(alpha: float, beta: float) -> Tuned:
        return tune(GRID, Landscape(alpha=alpha, beta=beta))

    assert at(0.4, 1.0).at_edge == ()
    assert at(1.0, 1.0).at_edge == ("alpha",)
    assert at(0.0, 3.0).at_edge == ("alpha", "beta")
    assert tune(Grid((0.5,), (1.0,)), Landscape()).at_edge == ()


def test_a_test_split_is_refused() -> None:
    for name in ("test", "test_other"):
        with pytest.raises(ValueError, match="tune on dev"):
            Params(backend="pyctcdecode", tune_on=name)
    assert Params(backend="pyctcdecode", tune_on="dev").tune_on == "dev"


def test_given_and_tuned_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="given or tuned"):
        Params(backend="pyctcdecode", tune_on="dev", alpha=0.5)


@pytest.mark.parametrize(
    ("alpha", "beta"), [((), (0.0,)), ((0.5, 0.5), (0.0,)), ((0.5,), (1.0, 0.0)), ((-0.1,), (0.0,))]
)
def test_a_grid_rises(alpha: tuple[float, ...], beta: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"alpha|beta"):
        Grid(alpha, beta)


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
