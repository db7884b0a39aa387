"""What the report says, in words and cells, for the page and for Markdown alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hlas.manifests.text import Language
from hlas.report.evaluate import SplitResult, SystemResult, pairs_in
from hlas.report.facts import Facts, facts, flat, leaf
from hlas.report.headline import caveats, points
from hlas.report.hearing import hearing_caveats
from hlas.report.provenance import Provenance, machine
from hlas.report.significance import Comparison, describe_test
from hlas.store import Record
from hlas.summary import duration

METRIC_COLUMNS = (
    *("WER %", "95 % interval", "against baseline", "p", "p (Holm)", "CER %", "raw WER %", "raw CER %"),
    *("MER %", "WIL %", "WIP %", "BLEU", "chrF", "wrong sentences %", "sub.", "del.", "ins.", "hits", "RTFx"),
)

COMPARISON_COLUMNS = (
    *("systems", "WER difference, points", "95 % interval", "p", "p (Holm)", "MAPSSWE p", "MAPSSWE p (Holm)"),
    *("real?", "audio compared", "audio needed"),
)

TERMS = (
    (
        "WER",
        "word error rate: substituted, deleted and inserted words, divided by the references' words; corpus level",
    ),
    ("CER", "the same over characters, the spaces between words among them"),
    (
        "raw WER",
        "WER of the text as the corpus has it against the text as the system wrote it: case and punctuation count",
    ),
    ("MER", "match error rate: errors divided by errors and hits together (Morris et al. 2004)"),
    ("WIP", "word information preserved: (hits / reference words) · (hits / hypothesis words) (Morris et al. 2004)"),
    ("WIL", "word information lost: 1 − WIP"),
    ("BLEU", "n-gram overlap up to 4 words, 0 to 100, over the normalised text (sacrebleu, tokenize none)"),
    ("chrF", "F2 of character n-grams up to 6 without spaces, 0 to 100 (Popović 2015; sacrebleu's defaults)"),
    ("RTFx", "seconds of audio that one second of work gets through, on the machine named below"),
    ("95 % interval", "bootstrap percentiles of the corpus-level rate (Bisani and Ney 2004)"),
    (
        "p",
        "twice the share of resamples in which the difference vanishes or turns round: paired bootstrap, two-sided; "
        "with fewer than 30 units no less than the p of Student's t test",
    ),
    (
        "p (Holm)",
        "p corrected for all pairs of systems in this report, as the best is known only after looking (Holm 1979); "
        "what is called real has it below 0.05",
    ),
    (
        "MAPSSWE",
        "matched-pairs test over stretches of speech that end with two words right in both systems (Gillick and Cox "
        "1989); with fewer than 50 stretches its p is doubtful",
    ),
    (
        "audio needed",
        "hours of such speech for a 95 % interval that leaves 0 out with 80 % power, were the difference that large: "
        "audio compared · ((1.96 + 0.84) · standard error / difference)²",
    ),
    (
        "gap",
        "WER of the worst group minus that of the best, groups of fewer than 100 words left out; its interval holds "
        "for all pairs of groups at once (max-t bootstrap), as the two were named after looking",
    ),
    ("oracle", "word error rate if the best entry of every n-best list were chosen: what rescoring could still gain"),
)


CURVE_CAPTION = "Greedy error rates on dev, and losses, after each epoch; the dot is the best epoch."


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is rendered."""

    title: str
    recipe: str  # name of the recipe; '' for a comparison across runs
    language: Language | None
    results: tuple[SplitResult, ...]  # the headline's split first
    provenance: Provenance
    seed: int  # of the bootstrap
    command: str  # that made the report
    made: Mapping[str, Any]  # versions, commit, machine of the report itself, as `environment()` gives them
    recipes: tuple[tuple[str, str], ...]  # (name, resolved YAML) of the recipes behind the systems
    fingerprints: tuple[tuple[str, str], ...]  # of the stages behind the numbers, and of the data from outside
    warnings: tuple[str, ...] = ()  # what a comparison across runs has to say beside the results' own

    @property
    def subtitle(self) -> str:
        """The language and the version of the rules that every text went through."""
        if self.language is None:
            return "no language"
        return f"{self.language.name} ({self.language.code}), text rules version {self.language.version}"

    @property
    def first(self) -> SplitResult:
        """The split that the summary speaks of: test where there is one."""
        return self.results[0]

    @property
    def parameters(self) -> list[tuple[Record, list[tuple[str, str]]]]:
        """Each stage's parameters as pairs, for the stages that have any."""
        pairs = [(record, list(flat(record.params))) for _, record in self.provenance.stages]
        return [item for item in pairs if item[1]]


def notes(report: Report) -> list[str]:
    """The caveats of the headline's split, and what was left out of the scoring."""
    out = [*report.warnings, *(warning for result in report.results for warning in result.warnings)]
    out += caveats(report.first)
    out += hearing_caveats(report.first, report.language)
    for _, record in report.provenance.stages:
        out += _stage_notes(record)
    untuned = [i.name for i in report.first.systems if i.system.summary.get("weights_from") == "default"]
    out += [f"{name}: alpha and beta are defaults, not tuned on dev for this model." for name in untuned]
    for result in report.results:
        score = result.systems[0].score
        if score.empty_references:
            inserted = ", ".join(f"{item.name} {item.score.empty_reference_insertions}" for item in result.systems)
            out.append(
                f"{score.empty_references} of the {score.utterances} {result.split} utterances have an empty reference "
                f"and count in no rate; words heard in them: {inserted}."
            )
    return out


def _stage_notes(record: Record) -> list[str]:
    """What a reader has to know of the text and the clips behind the numbers."""
    if record.kind == "lm" and (removed := record.summary.get("counts", {}).get("in_dev_or_test")):
        return [f"{record.name}: {removed} sentences of its text are in dev or test and were kept out."]
    out = []
    if record.kind == "manifests":
        for split, account in record.summary.get("splits", {}).items():
            read, in_release = account.get("read", 0), account.get("in_release", 0)
            if read < in_release:
                share = f"{read} of the {in_release} clips of the release"
                out.append(f"{record.name}: {split} was limited to {share}: a quick check, not a result.")
            if shared := account.get("overlaps_kept"):
                out.append(f"{record.name}: {split} shares with other splits: {leaf(shared)}.")
    return out


def table_note(report: Report, result: SplitResult) -> str:
    """What stands under a metrics table: what the intervals and p values rest on."""
    parts = [f"{result.units.note}."]
    if result.comparisons:
        test = describe_test(result.units, result.resamples)
        count = pairs_in(report.results)
        parts.append(f"p: {test}; p (Holm): corrected for the pairs of systems in this report ({count}).")
    if note := tuned_note(result):
        parts.append(note)
    return " ".join(parts)


def tuned_note(result: SplitResult) -> str:
    """Which systems were tuned on this very split; '' where none was."""
    tuned = [item.name for item in result.systems if result.split in item.system.tuned_splits]
    return f"Tuned on {result.split}, which flatters them here: {', '.join(tuned)}." if tuned else ""


def metric_cells(result: SplitResult, item: SystemResult) -> list[str]:
    """One row of the metrics table, as METRIC_COLUMNS names them."""
    score = item.score
    low, high = item.wer_ci95
    comparison = result.comparison(result.baseline, item.name)
    delta, p, p_corrected = "", "", ""
    if comparison:
        delta_low, delta_high = comparison.wer_delta_ci95
        delta = f"{points(comparison.wer_delta)} ({points(delta_low)} … {points(delta_high)})"
        p, p_corrected = map(p_cell, (comparison.p_value, comparison.p_holm))
    return [
        f"{100 * score.wer:.1f}",
        f"{100 * low:.1f}–{100 * high:.1f}",
        delta,
        p,
        p_corrected,
        f"{100 * score.cer:.1f}",
        f"{100 * score.raw.wer:.1f}" if score.raw else "",
        f"{100 * score.raw.cer:.1f}" if score.raw else "",
        f"{100 * score.mer:.1f}",
        f"{100 * score.wil:.1f}",
        f"{100 * score.wip:.1f}",
        f"{score.bleu:.1f}",
        f"{score.chrf:.1f}",
        f"{100 * score.sentence_error_rate:.1f}",
        str(score.substitutions),
        str(score.deletions),
        str(score.insertions),
        str(score.hits),
        "" if item.rtfx is None else f"{item.rtfx:.3g}",
    ]


def comparison_cells(comparison: Comparison) -> list[str]:
    """One row of the table of comparisons, as COMPARISON_COLUMNS names them."""
    low, high = comparison.wer_delta_ci95
    matched = comparison.mapsswe
    needed = comparison.hours_needed
    return [
        f"{comparison.b} against {comparison.a}",
        points(comparison.wer_delta),
        f"{points(low)} to {points(high)}",
        p_cell(comparison.p_value),
        p_cell(comparison.p_holm),
        p_cell(matched.p_value) + (" (few segments)" if matched.doubtful else "") if matched else "–",
        p_cell(matched.p_holm) if matched else "–",
        "yes" if comparison.significant else "cannot tell",
        duration(3600 * comparison.hours),
        "–" if needed is None else duration(3600 * needed),
    ]


def p_cell(value: float) -> str:
    """A p value with two digits that count, and no more than a thousandth."""
    return "< 0.001" if value < 0.001 else f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def stage_title(record: Record) -> str:
    """Name of a stage, and its kind where they differ."""
    return record.name if record.name == record.kind else f"{record.name} ({record.kind})"


STAGE_COLUMNS = ("stage", "kind", "took", "finished (UTC)", "machine", "commit", "folder")


def stage_cells(provenance: Provenance, unknown: str) -> list[list[str]]:
    """The cells under STAGE_COLUMNS, a row a stage in data-flow order; `unknown`: what stands for no commit."""
    return [
        [
            record.name,
            record.kind,
            duration(record.seconds),
            record.finished,
            machine(record),
            str(record.environment.get("commit") or unknown),
            folder.name,
        ]
        for folder, record in provenance.stages
    ]


def stage_facts(provenance: Provenance) -> list[tuple[Path, Record, Facts]]:
    """What the stages before the systems counted: manifests kept and rejected, LM sentences removed, training."""
    counted = [(folder, record, facts(record.summary)) for folder, record in provenance.stages]
    return [item for item in counted if item[2] and item[1].kind not in ("decode", "rescore", "transcribe")]
