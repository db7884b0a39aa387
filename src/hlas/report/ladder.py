"""The ladder: greedy, beam, beam + LM, rescored, what the n-best lists still hold (oracle); other systems beside.

Each rung says where the next gain is: greedy to beam is search, beam to beam + LM the language model, the step to
rescored a larger one, what is left to the oracle a still better one; and an LM-bound search can hardly get below the
share of words that its LM has never seen.
"""

from dataclasses import dataclass
from typing import Literal

from hlas.report.evaluate import SplitResult
from hlas.report.systems import Role

_ORDER: dict[Role, int] = {"greedy": 0, "beam": 1, "beam_lm": 2, "rescored": 3, "other": 4}


@dataclass(frozen=True, slots=True)
class Rung:
    """One bar of the figure."""

    label: str
    kind: Literal["system", "oracle"]
    system: str
    group: str  # the log-probs whose rungs belong together; '' for systems that hear the audio itself
    wer: float
    wer_ci95: tuple[float, float] | None  # None for an oracle, which is no system
    oov_share: float | None  # floor of an LM-bound search; None without an LM


def ladder(result: SplitResult) -> list[Rung]:
    """The rungs of one split: decoded systems by their log-probs, then the others."""
    groups = list(dict.fromkeys(r.system.acoustic for r in result.systems))
    ordered = sorted(
        result.systems,
        key=lambda r: (r.system.acoustic == "", groups.index(r.system.acoustic), _ORDER[r.system.role]),
    )
    rungs: list[Rung] = []
    for item in ordered:
        group = item.system.acoustic
        rungs.append(Rung(item.name, "system", item.name, group, item.score.wer, item.wer_ci95, item.oov_share))
        # rescored n-best lists hold what the search that made them found: one oracle for both
        shown = any((r.kind, r.group, r.wer) == ("oracle", group, item.oracle_wer) for r in rungs)
        if item.oracle_wer is not None and not (shown and item.system.role == "rescored"):
            label = f"{item.name}, {item.nbest_depth}-best oracle"
            rungs.append(Rung(label, "oracle", item.name, group, item.oracle_wer, None, None))
    return rungs
