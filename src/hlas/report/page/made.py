"""How the numbers were made: command, stages, parameters, versions, data; and what the stages counted."""

from html import escape

from hlas.report.content import CURVE_CAPTION, STAGE_COLUMNS, Report, stage_cells, stage_facts, stage_title
from hlas.report.facts import FactTable, leaf
from hlas.report.page.curve import curve_svg
from hlas.report.page.tables import pairs, table
from hlas.report.provenance import read_curve, versions
from hlas.summary import duration


def curves_html(report: Report) -> str:
    """The training curve of every train stage that kept one."""
    out = []
    for folder, record in report.provenance.stages:
        if record.kind == "train" and (points := read_curve(folder)):
            out.append(
                f'<figure><h3>{escape(record.name)}</h3><div class="inset">{curve_svg(points)}</div>'
                f"<figcaption>{escape(CURVE_CAPTION)}</figcaption></figure>"
            )
    return f'<div class="cards">{"".join(out)}</div>' if out else ""


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
