"""How the numbers were made: command, stages, parameters, versions, data; and what the stages counted."""

from collections.abc import Mapping, Sequence
from html import escape

from hlas.report.content import CURVE_CAPTION, STAGE_COLUMNS, Report, stage_cells, stage_facts, stage_title
from hlas.report.facts import FactTable, leaf
from hlas.report.headline import percent
from hlas.report.page.curve import Training, losses_svg, overlay_svg, rates_svg, training
from hlas.report.page.tables import pairs, table
from hlas.report.provenance import Epoch, read_curve, read_samples, versions
from hlas.store import Source
from hlas.summary import duration

OVERLAY_CAPTION = (
    "Greedy WER on the same dev clips after each epoch of each training; the dots are the best epochs, the numbers the "
    "last ones'. A dotted line leads from a training that ended before the others to its name. The axis need not begin "
    "at 0."
)
_SAMPLES = 4  # utterances in the table of what was heard


def curves_html(report: Report) -> str:
    """The training curve of every train stage that kept one; those on the same dev clips in one drawing first."""
    kept = [
        (folder, record, training(epochs, record.summary.get("best_epoch")))
        for folder, record in report.provenance.stages
        if (epochs := read_curve(folder))
    ]
    same_dev: dict[tuple[Source, ...], dict[str, Training]] = {}
    for folder, record, curve in kept:
        trainings = same_dev.setdefault(record.inputs.get("dev", ()), {})
        trainings[f"{record.name} ({folder.name})" if record.name in trainings else record.name] = curve
    compared = [_overlay(trainings) for dev, trainings in same_dev.items() if dev and len(trainings) > 1]
    single = [_training(curve, read_samples(folder)) for folder, record, curve in kept]
    if compared:
        single = [_folded(record.name, body) for (_, record, _), body in zip(kept, single, strict=True)]
    else:
        single = [f"<h3>{escape(record.name)}</h3>{body}" for (_, record, _), body in zip(kept, single, strict=True)]
    return "\n".join([*compared, *single])


def _overlay(trainings: Mapping[str, Training]) -> str:
    """Several trainings that were measured on the same clips."""
    rows = [
        [
            name,
            percent(shown.best.dev_wer),
            "" if shown.best.dev_cer is None else percent(shown.best.dev_cer),
            str(shown.best.epoch + 1),
            str(shown.epochs[-1].epoch + 1),
        ]
        for name, shown in trainings.items()
    ]
    head = ("training", "best dev WER", "CER there", "at epoch", "epochs")
    first = min(range(len(rows)), key=lambda i: list(trainings.values())[i].best.dev_wer)
    drawing = overlay_svg(dict(zip(_short_names(list(trainings)), trainings.values(), strict=True)))
    return (
        f'<figure><div class="inset named">{drawing}</div><figcaption>{escape(OVERLAY_CAPTION)}</figcaption></figure>'
        + table("", head, rows, numbers=range(1, len(head)), best=first)
    )


def _short_names(names: Sequence[str]) -> list[str]:
    """Variants of one stage, 'train@freeze=none' and the like, by what they differ in: keys without their sections."""
    stages = {name.partition("@")[0] for name in names}
    if len(stages) > 1 or any("@" not in name for name in names):
        return list(names)
    pairs = [[part.partition("=") for part in name.split("@")[1:]] for name in names]
    short = [", ".join(f"{key.rpartition('.')[2]}={value}" for key, _, value in each) for each in pairs]
    return short if len(set(short)) == len(short) else [name.partition("@")[2] for name in names]


def _training(shown: Training, samples: Mapping[int, Sequence[tuple[str, str]]]) -> str:
    """One training's rates and losses side by side, and what it heard."""
    best = shown.best
    figures = [
        f'<div><p class="caption">{title}</p><div class="inset ended">{drawing}</div></div>'
        for title, drawing in (("error rates on dev", rates_svg(shown)), ("loss", losses_svg(shown.epochs)))
        if drawing
    ]
    reached = f"Best: {percent(best.dev_wer)} WER after epoch {best.epoch + 1} of {shown.epochs[-1].epoch + 1}."
    caption = f"<figcaption>{escape(f'{CURVE_CAPTION} {reached}')}</figcaption>"
    return f'<figure><div class="cards">{"".join(figures)}</div>{caption}</figure>' + _samples(best, samples)


def _samples(best: Epoch, samples: Mapping[int, Sequence[tuple[str, str]]]) -> str:
    """What a few dev utterances were heard as after the first, the middle, the best and the last epoch."""
    epochs = sorted(samples)
    if not epochs or not samples[epochs[0]]:
        return ""
    shown = sorted({epochs[0], epochs[len(epochs) // 2], best.epoch, epochs[-1]} & set(epochs))
    count = len(samples[epochs[0]])
    places = sorted({round(i * (count - 1) / (_SAMPLES - 1)) for i in range(_SAMPLES)})  # shortest to longest
    rows = [
        [f"epoch {e + 1}" + (" (best)" if e == best.epoch else ""), *(samples[e][i][1] or "–" for i in places)]
        for e in shown
    ]
    head = ("said", *(samples[epochs[0]][i][0] for i in places))
    return table("What some dev utterances were heard as", head, rows, style="samples")


def data_html(report: Report) -> str:
    """What the stages before the systems counted."""
    out = []
    for _, record, facts in stage_facts(report.provenance):
        whole_row = ' class="whole"' if facts.tables else ""
        tables = "".join(map(_fact_table, facts.tables))
        out.append(f"<div{whole_row}><h3>{escape(stage_title(record))}</h3>{pairs(facts.pairs)}{tables}</div>")
    return '<div class="cards">\n' + "\n".join(out) + "\n</div>" if out else ""


def _fact_table(item: FactTable) -> str:
    columns = list(zip(*item.rows, strict=True))
    numbers = [i for i, column in enumerate(columns) if i and all(cell[:1].isdigit() for cell in column)]
    return table("", (item.name, *item.head[1:]), item.rows, numbers=numbers)


def made_html(report: Report) -> str:
    """Command, versions and machine of the report; the stages behind it, their parameters; recipes and fingerprints."""
    stages = report.provenance.stages
    commands = sorted({str(r.environment["command"]) for _, r in stages if r.environment.get("command")})
    own = [
        ("this report", report.command),
        *(("its stages", command) for command in commands if command != report.command),
        ("on", leaf({key: value for key, value in report.made.get("machine", {}).items() if value})),
        ("commit", str(report.made.get("commit") or "")),
        ("bootstrap", f"{report.first.resamples} resamples, seed {report.seed}"),
    ]
    recipes = "".join(_folded(f"{name}, resolved", f"<pre>{escape(text)}</pre>") for name, text in report.recipes)
    parameters = "".join(_folded(record.name, pairs(items)) for record, items in report.parameters)
    parts = [
        pairs([(key, text) for key, text in own if text]),
        _stages(report),
        f"<h3>Recipe</h3>{recipes}" if recipes else "",
        f"<h3>Parameters of each stage</h3>{parameters}" if parameters else "",
        "<h3>Versions and fingerprints</h3>",
        _folded("Versions of the libraries", pairs(list(_versions(report).items()))),
        _folded("Fingerprints of stages and data", pairs(report.fingerprints)) if report.fingerprints else "",
    ]
    return "\n".join(part for part in parts if part)


def _folded(name: str, body: str) -> str:
    return f'<details class="line"><summary>{escape(name)}</summary>{body}</details>'


def _versions(report: Report) -> dict[str, str]:
    """Library -> version, the stages' and the report's own where no stage names the library."""
    own = {"python": report.made.get("python", ""), **report.made.get("versions", {})}
    return {key: text for key, text in (own | versions(report.provenance)).items() if text}


def _stages(report: Report) -> str:
    rows = stage_cells(report.provenance, unknown="–")
    if not rows:
        return ""
    total = f"All stages together took {duration(report.provenance.seconds)}."
    stages = table("Stages in data-flow order", STAGE_COLUMNS, rows, numbers=(2,))
    return stages + f'<p class="caption">{escape(total)}</p>'
