"""What the report says, in words and cells, for the page and for Markdown alike."""

from dataclasses import dataclass
from pathlib import Path

from hlas.manifests.text import Language
from hlas.report.evaluate import SplitResult, SystemResult
from hlas.report.facts import Facts, facts, flat, leaf
from hlas.report.headline import caveats, p_text, points
from hlas.report.provenance import Provenance
from hlas.report.significance import describe_test
from hlas.store import Record

METRIC_COLUMNS = (
    *("WER %", "95 % interval", "against baseline", "p", "CER %", "raw WER %", "MER %", "WIL %", "BLEU"),
    *("wrong sentences %", "sub.", "del.", "ins.", "RTFx"),
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
    ("WIL", "word information lost: 1 − (hits / reference words) · (hits / hypothesis words) (Morris et al. 2004)"),
    ("BLEU", "n-gram overlap up to 4 words, 0 to 100, over the normalised text (sacrebleu, tokenize none)"),
    ("RTFx", "seconds of audio that one second of work gets through, on the machine named below"),
    ("95 % interval", "bootstrap percentiles of the corpus-level rate (Bisani and Ney 2004)"),
    ("p", "twice the share of resamples in which the difference vanishes or turns round: paired bootstrap, two-sided"),
    ("oracle", "word error rate if the best entry of every n-best list were chosen: what rescoring could still gain"),
)


CURVE_CAPTION = "Greedy WER on dev after each epoch of training; the dot is the best epoch."


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is rendered."""

    title: str
    language: Language | None
    results: tuple[SplitResult, ...]  # the headline's split first
    provenance: Provenance
    resamples: int  # of the bootstrap
    shown_utterances: int  # cap of the utterance list

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
    out = caveats(report.first)
    for _, record in report.provenance.stages:
        out += _stage_notes(record)
    untuned = [i.name for i in report.first.systems if i.system.record.summary.get("weights_from") == "default"]
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
    if record.kind == "lm" and (removed := record.summary.get("counts", {}).get("in_dev_or_test")) is not None:
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
        test = describe_test(result.units, report.resamples)
        parts.append(f"p: {test}; not corrected for the number of comparisons ({len(result.comparisons)}).")
    return " ".join(parts)


def metric_cells(result: SplitResult, item: SystemResult) -> list[str]:
    """One row of the metrics table, as METRIC_COLUMNS names them."""
    score = item.score
    low, high = item.wer_ci95
    comparison = result.comparison(result.baseline, item.name)
    delta, p = "", ""
    if comparison:
        delta_low, delta_high = comparison.wer_delta_ci95
        delta = f"{points(comparison.wer_delta)} ({points(delta_low)} … {points(delta_high)})"
        p = p_text(comparison.p_value).rpartition("=")[2].strip()
    return [
        f"{100 * score.wer:.1f}",
        f"{100 * low:.1f}–{100 * high:.1f}",
        delta,
        p,
        f"{100 * score.cer:.1f}",
        "" if score.raw_wer is None else f"{100 * score.raw_wer:.1f}",
        f"{100 * score.mer:.1f}",
        f"{100 * score.wil:.1f}",
        f"{score.bleu:.1f}",
        f"{100 * score.sentence_error_rate:.1f}",
        str(score.substitutions),
        str(score.deletions),
        str(score.insertions),
        "" if item.rtfx is None else f"{item.rtfx:.3g}",
    ]


def stage_title(record: Record) -> str:
    """Name of a stage, and its kind where they differ."""
    return record.name if record.name == record.kind else f"{record.name} ({record.kind})"


def stage_facts(provenance: Provenance) -> list[tuple[Path, Record, Facts]]:
    """What the stages before the systems counted: manifests kept and rejected, LM sentences removed, training."""
    counted = [(folder, record, facts(record.summary)) for folder, record in provenance.stages]
    return [item for item in counted if item[2] and item[1].kind not in ("decode", "transcribe")]
