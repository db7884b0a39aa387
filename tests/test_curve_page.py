"""Training curves and samples on the report page, read in a real headless Chromium."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hlas.report.page.curve import training
from hlas.report.provenance import Epoch, Provenance, read_curve
from hlas.store import Record, Source
from page_kit import Open, corpus, heard, made_report, write

pytest_plugins = ("page_kit",)

OLD = [  # as versions without CER and throughput wrote it
    {
        "epoch": 0,
        "step": 116,
        "train_loss": 265.6,
        "dev_loss": 194.9,
        "dev_wer": 1.02,
        "learning_rate": 0.01,
        "seconds": 5,
    },
    {
        "epoch": 1,
        "step": 232,
        "train_loss": 195.0,
        "dev_loss": None,
        "dev_wer": 0.9,
        "learning_rate": 0.01,
        "seconds": 5,
    },
    {
        "epoch": 2,
        "step": 348,
        "train_loss": 152.5,
        "dev_loss": 133.8,
        "dev_wer": 0.95,
        "learning_rate": 0.02,
        "seconds": 5,
    },
]
HOSTILE = "</td><img src=x onerror=window.ran=1>"


def rows(wers: Sequence[float | None]) -> list[dict[str, Any]]:
    return [
        {"epoch": i, "dev_wer": w, "dev_cer": w and w / 2, "train_loss": 90 - 8 * i, "dev_loss": w and 80 - i}
        for i, w in enumerate(wers)
    ]


def trained(
    folder: Path, name: str, curve: Sequence[Mapping[str, Any]], dev: str = "manifests-1"
) -> tuple[Path, Record]:
    made = folder / name.replace("@", "_")
    made.mkdir()
    (made / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
    inputs = {"dev": (Source("manifests", "dev", dev, ""),)}
    return made, Record(name, "train", 1, "f" * 64, {}, {}, inputs, {"parameters": 5}, 1.0, "2026-01-01T00:00:00", {})


def page_of(folder: Path, stages: Sequence[tuple[Path, Record]]) -> Path:
    report = made_report(folder, {"greedy": heard(corpus(folder)[:6], 0.2, 1)})
    return write(replace(report, provenance=Provenance(tuple(stages))), folder, audio="none")


def drawn(figure: Any) -> list[list[float]]:
    """The values of each line, read back from its pixels and the axis."""
    ticks = [(tick.text_content() or "").removesuffix("\u00a0%") for tick in figure.locator("text.tick[x='-8']").all()]
    bottom, top = float(ticks[0]), float(ticks[-1])
    height = float((figure.locator("svg[viewBox]").get_attribute("viewBox") or "").split()[3])
    lines = [line.get_attribute("points").split() for line in figure.locator("svg[viewBox] polyline").all()]
    heights = [[1 - float(point.partition(",")[2]) / height for point in line] for line in lines]
    return [[bottom + (top - bottom) * share for share in line] for line in heights]


def test_one_training_shows_rates_losses_and_the_best_epoch(tmp_path: Path, open_page: Open) -> None:
    wers = [1.02, 0.8, None, 0.61, 0.7]
    stage = trained(tmp_path, "train", rows(wers))
    tab = open_page(page_of(tmp_path, [stage]))
    rates, losses = tab.locator("#training svg.curve").all()
    known = [w for w in wers if w is not None]
    assert drawn(rates) == [
        pytest.approx([100 * w for w in known], abs=0.1),
        pytest.approx([50 * w for w in known], abs=0.1),
    ]
    assert drawn(losses) == [pytest.approx([80, 79, 77, 76], abs=0.1), pytest.approx([90, 82, 66, 58], abs=0.1)]
    assert rates.get_attribute("aria-label") == "Dev WER by epoch, best 61.0\u00a0% at epoch 4"
    assert rates.locator("circle").get_attribute("cx") == "75.00%"
    assert [t.text_content() for t in rates.locator(".ends text").all()] == ["35.0\u00a0% CER", "70.0\u00a0% WER"][::-1]
    assert "Best: 61.0\u00a0% WER after epoch 4 of 5." in (tab.locator("#training figcaption").text_content() or "")


def test_a_curve_of_an_older_version_is_shown(tmp_path: Path, open_page: Open) -> None:
    stage = trained(tmp_path, "train", OLD)
    assert read_curve(stage[0])[0] == Epoch(0, 1.02, None, 265.6, 194.9)
    tab = open_page(page_of(tmp_path, [stage]))
    rates, losses = tab.locator("#training svg.curve").all()
    assert drawn(rates) == [pytest.approx([102, 90, 95], abs=0.1)]
    assert [len(line) for line in drawn(losses)] == [2, 3]
    assert tab.locator("#training table").count() == 0


def test_one_epoch_alone(tmp_path: Path, open_page: Open) -> None:
    tab = open_page(page_of(tmp_path, [trained(tmp_path, "train", rows([0.5]))]))
    assert drawn(tab.locator("#training svg.curve").first) == [[pytest.approx(50)], [pytest.approx(25)]]


def test_the_best_epoch_is_the_one_that_the_stage_chose() -> None:
    epochs = [Epoch(0, 0.5), Epoch(1, 0.4, dev_loss=3.0), Epoch(2, 0.4, dev_loss=2.0), Epoch(3, 0.4, dev_loss=2.0)]
    assert training(epochs, 3).best.epoch == 3
    for unknown in (None, 7):
        assert training(epochs, unknown).best.epoch == 2  # of equal WERs the lower loss, then the earlier
    assert training([Epoch(0, 0.5), Epoch(1, 0.4), Epoch(2, 0.4)], None).best.epoch == 1


def test_the_page_shows_the_best_epoch_that_the_stage_names(tmp_path: Path, open_page: Open) -> None:
    folder, record = trained(tmp_path, "train", rows([0.9, 0.5, 0.6]))
    chosen = replace(record, summary={"best_epoch": 2})  # by its loss
    tab = open_page(page_of(tmp_path, [(folder, chosen)]))
    assert "Best: 60.0\u00a0% WER after epoch 3 of 3." in (tab.locator("#training figcaption").text_content() or "")


def test_what_was_heard_after_the_first_the_middle_the_best_and_the_last_epoch(tmp_path: Path, open_page: Open) -> None:
    stage = trained(tmp_path, "train", rows([1.0, 0.9, 0.8, 0.7, 0.5, 0.6]))
    references = ["a", "b b", "c c c", HOSTILE, "e", "f", "g g g g"]
    lines = [
        {"epoch": e, "utterance": i, "reference": text, "hypothesis": text if e == 4 else "x" * e}
        for e in range(6)
        for i, text in enumerate(references)
    ]
    (stage[0] / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    tab = open_page(page_of(tmp_path, [stage]))
    table = tab.locator("#training table")
    assert table.locator("thead th").all_text_contents() == ["said", "a", "c c c", "e", "g g g g"]
    cells = [line.locator("th, td").all_text_contents() for line in table.locator("tbody tr").all()]
    assert cells == [
        ["epoch 1", "–", "–", "–", "–"],
        ["epoch 4", "xxx", "xxx", "xxx", "xxx"],
        ["epoch 5 (best)", "a", "c c c", "e", "g g g g"],
        ["epoch 6", "xxxxx", "xxxxx", "xxxxx", "xxxxx"],
    ]


def test_a_transcript_in_the_samples_is_never_run(tmp_path: Path, open_page: Open) -> None:
    stage = trained(tmp_path, HOSTILE.replace("/", ""), rows([0.5]))
    line = {"epoch": 0, "utterance": 0, "reference": HOSTILE, "hypothesis": HOSTILE}
    (stage[0] / "samples.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    tab = open_page(page_of(tmp_path, [stage]))
    assert tab.evaluate("window.ran") is None
    assert tab.locator("#training img").count() == 0
    assert tab.locator("#training tbody td").all_text_contents() == [HOSTILE]


@pytest.mark.parametrize("width", [360, 1280])
def test_variants_on_the_same_dev_clips_lie_in_one_drawing_with_a_name_each(
    tmp_path: Path, open_page: Open, width: int
) -> None:
    names = [f"train@freeze={name}" for name in ("none", "encoder", "feature_encoder", *map(str, range(9)))]
    stages = [trained(tmp_path, name, rows([1.0, 0.5 + i / 1000])) for i, name in enumerate(names)]
    other = trained(tmp_path, "pretrain", rows([0.9, 0.2]), dev="manifests-2")
    tab = open_page(page_of(tmp_path, [other, *stages]), viewport={"width": width, "height": 800})
    overlay = tab.locator("#training svg.curve").first
    assert [line[-1] for line in drawn(overlay)] == pytest.approx([50 + i / 10 for i in range(12)], abs=0.1)
    assert overlay.locator("circle").count() == 12
    labels = overlay.locator(".ends text").all()
    assert "50.0\u00a0% freeze=none" in [label.text_content() for label in labels]
    boxes = sorted((box["y"], box["y"] + box["height"]) for label in labels if (box := label.bounding_box()))
    assert len(boxes) == 12
    assert all(after[0] >= before[0] + 15 for before, after in pairwise(boxes))
    marks = {
        tuple(line.get_attribute(name) for name in ("class", "stroke-dasharray"))
        for line in overlay.locator("svg[viewBox] polyline").all()
    }
    assert len(marks) == 12  # each has its own colour or dashes
    best = tab.locator("#training tr.best th, #training tr.best td").all_text_contents()
    assert best == ["train@freeze=none", "50.0\u00a0%", "25.0\u00a0%", "2", "2"]
    assert tab.locator("#training details").count() == 13  # each training's own curve, also of that on other clips
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_the_overlays_axis_begins_below_high_rates_and_long_names_keep_their_ends(
    tmp_path: Path, open_page: Open
) -> None:
    keys = "train@model.optim_param_groups.encoder.lr={}@freeze=encoder_except_last_{}"
    names = [keys.format(0.01, 2), keys.format(0.01, 3)]
    curves = [[0.99, 0.93, 0.913], [0.98, 0.94]]  # the second was stopped
    stages = [trained(tmp_path, name, rows(wers)) for name, wers in zip(names, curves, strict=True)]
    tab = open_page(page_of(tmp_path, stages))
    overlay = tab.locator("#training svg.curve").first
    ticks = overlay.locator("text.tick[x='-8']").all_text_contents()
    assert (ticks[0], ticks[-1]) == ("90\u00a0%", "100\u00a0%")
    assert drawn(overlay) == [pytest.approx([100 * w for w in wers], abs=0.01) for wers in curves]
    labels = [
        text.removeprefix("94.0\u00a0% ").removeprefix("91.3\u00a0% ")
        for text in overlay.locator(".ends text").all_text_contents()
    ]
    assert labels == ["lr=0.01, freeze=encoder_except_last_3", "lr=0.01, freeze=encoder_except_last_2"]
    right = tab.evaluate("document.documentElement.clientWidth")
    assert all(
        (box := label.bounding_box()) and box["x"] + box["width"] <= right
        for label in overlay.locator(".ends text").all()
    )
    (leader,) = overlay.locator("line.leader").all()  # from where the second ended to its name
    assert (leader.get_attribute("x1"), leader.get_attribute("x2")) == ("50.00%", "100%")


def test_the_overlays_axis_begins_at_0_where_rates_differ_much(tmp_path: Path, open_page: Open) -> None:
    stages = [trained(tmp_path, f"train@seed={i}", rows(wers)) for i, wers in enumerate(([0.9, 0.2], [0.8, 0.3]))]
    overlay = open_page(page_of(tmp_path, stages)).locator("#training svg.curve").first
    assert (overlay.locator("text.tick[x='-8']").first.text_content() or "").startswith("0")


def test_trainings_on_different_dev_clips_are_not_compared(tmp_path: Path, open_page: Open) -> None:
    stages = [trained(tmp_path, name, rows([0.5]), dev=f"manifests-{name}") for name in ("cs", "hsb")]
    tab = open_page(page_of(tmp_path, stages))
    assert tab.locator("#training h3").all_text_contents() == ["cs", "hsb"]
    assert tab.locator("#training svg.curve").count() == 4
