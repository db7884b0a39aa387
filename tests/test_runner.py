"""The runner: skip, resume, force, publish whole or not at all. Its stages are real ones on eight short clips."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hlas.errors import UserError, UserErrors
from hlas.fingerprint import Hashes
from hlas.gc import find_old, remove
from hlas.paths import project_root
from hlas.plan import Selection, make_plan
from hlas.recipe import Recipe, load_recipe
from hlas.runner import run_recipe
from hlas.store import ancestors, is_done, partial, read_record
from hlas.summary import plan_lines

RECIPE = """\
name: trial
language: manifests/languages/en.yaml
stages:
  manifests: {{spec: manifests/common_voice.yaml, release: {release}}}
  tokenizer: {{spec: tokenizers/char.yaml, text: manifests.train}}
  second: {{uses: tokenizer, spec: tokenizers/char.yaml, text: [manifests.train, manifests.dev]}}
"""
SENTENCES = {
    "train": ["a green bird", "two birds sing", "the sun is up", "cold rain falls"],
    "dev": ["a bird is up", "rain sings"],
    "test": ["the green sun", "birds fall"],
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A Common Voice folder of eight tones."""
    folder = tmp_path / "release"
    (folder / "clips").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for split, sentences in SENTENCES.items():
        lines = ["client_id\tpath\tsentence"]
        for i, sentence in enumerate(sentences):
            name = f"{split}_{i}.mp3"
            soundfile.write(folder / "clips" / name, 0.1 * rng.standard_normal(24000), 16000, format="MP3")
            lines.append(f"{split}{i}\t{name}\t{sentence}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def recipe(tmp_path: Path, release: Path) -> Path:
    path = tmp_path / "trial.yaml"
    path.write_text(RECIPE.format(release=release), encoding="utf-8")
    return path


def run(recipe: Recipe, tmp_path: Path, selection: Selection | None = None) -> list[str]:
    """Run with one worker; returns the names of the stages that were made."""
    planned = run_recipe(recipe, tmp_path / "runs", selection or Selection(), workers=1)
    return [p.stage.name for p in planned if p.runs]


def to_run(recipe: Recipe, tmp_path: Path) -> dict[str, tuple[str, ...]]:
    return {p.stage.name: p.changes for p in make_plan(recipe, tmp_path / "runs") if p.runs}


def test_what_is_made_is_not_made_again(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    assert run(loaded, tmp_path) == ["manifests", "tokenizer", "second"]
    home = tmp_path / "runs" / "trial"
    assert (home / "manifests").readlink().parts[:2] == ("..", "store")
    assert (home / "logs" / "manifests.log").read_text(encoding="utf-8")
    assert (home / "recipe.resolved.yaml").is_file()
    before = (home / "manifests" / "stage.json").read_bytes()
    assert run(loaded, tmp_path) == []
    assert (home / "manifests" / "stage.json").read_bytes() == before


def test_an_output_that_was_removed_is_made_again_and_nothing_else(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    run(loaded, tmp_path)
    folder = tmp_path / "runs" / "trial" / "manifests"
    assert read_record(folder).outputs == ("train.jsonl", "dev.jsonl", "test.jsonl")
    rows = (folder / "dev.jsonl").read_bytes()
    (folder / "dev.jsonl").unlink()
    assert to_run(loaded, tmp_path) == {"manifests": ("dev.jsonl is gone",)}
    lines = list(plan_lines(make_plan(loaded, tmp_path / "runs")))
    assert "changed: dev.jsonl is gone" in lines[0]
    assert run(loaded, tmp_path) == ["manifests"]
    assert (folder / "dev.jsonl").read_bytes() == rows
    assert run(loaded, tmp_path) == []


def test_a_record_of_an_older_version_names_no_outputs_and_stays_made(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    run(loaded, tmp_path)
    path = tmp_path / "runs" / "trial" / "manifests" / "stage.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["outputs"]
    path.write_text(json.dumps(record), encoding="utf-8")
    (path.parent / "dev.jsonl").unlink()
    assert to_run(loaded, tmp_path) == {}


def test_a_change_names_its_ingredient_and_reaches_only_what_depends_on_it(
    recipe: Path, release: Path, tmp_path: Path
) -> None:
    run(load_recipe(recipe), tmp_path)
    bpe = load_recipe(recipe, ("tokenizer.type=bpe", "tokenizer.vocab_size=20"))
    assert to_run(bpe, tmp_path) == {"tokenizer": ("vocab_size", "type")} or set(to_run(bpe, tmp_path)) == {"tokenizer"}
    assert set(to_run(bpe, tmp_path)["tokenizer"]) == {"type", "vocab_size"}
    limited = to_run(load_recipe(recipe, ("manifests.limit=1",)), tmp_path)
    assert set(limited) == {"manifests", "tokenizer", "second"}
    assert limited["manifests"] == ("limit",)
    assert limited["tokenizer"] == ("input text",)
    table = release / "train.tsv"
    table.write_text(table.read_text(encoding="utf-8").replace("cold", "warm"), encoding="utf-8")
    assert to_run(load_recipe(recipe), tmp_path)["manifests"] == ("input release",)


def test_outside_folders_are_hashed_by_content_and_through_links(tmp_path: Path) -> None:
    folder = tmp_path / "log-probs"
    (folder / "clips").mkdir(parents=True)
    (folder / "dev.npy").write_bytes(b"1234")
    (folder / "clips" / "a.mp3").write_bytes(b"12")

    def now() -> str:
        return Hashes(tmp_path / "none" / "cache.json").of_path(folder)

    seen = [now()]
    (folder / "dev.npy").write_bytes(b"1239")
    seen.append(now())
    (folder / "clips").rename(tmp_path / "elsewhere")
    seen.append(now())
    (folder / "clips").symlink_to(tmp_path / "elsewhere")
    assert now() == seen[1]  # the same files, whether linked or not
    (folder / "clips" / "back").symlink_to(folder)  # a circle ends
    (tmp_path / "elsewhere" / "b.mp3").write_bytes(b"12")
    seen.append(now())
    assert len(set(seen)) == 4


def test_comments_workers_and_golden_cases_change_nothing(recipe: Path, tmp_path: Path) -> None:
    run(load_recipe(recipe), tmp_path)
    recipe.write_text("# a comment\n" + recipe.read_text(encoding="utf-8"), encoding="utf-8")
    assert to_run(load_recipe(recipe), tmp_path) == {}


def test_selections(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    with pytest.raises(UserErrors, match="needs 'manifests', which is not made"):
        run(loaded, tmp_path, Selection(only="tokenizer"))
    assert run(loaded, tmp_path, Selection(stop="tokenizer")) == ["manifests", "tokenizer"]
    assert run(loaded, tmp_path, Selection(start="tokenizer")) == []
    assert run(loaded, tmp_path, Selection(force=("tokenizer",))) == ["tokenizer", "second"]
    assert run(loaded, tmp_path, Selection(force=("manifests",), stop="tokenizer")) == ["manifests", "tokenizer"]
    assert list(to_run(loaded, tmp_path)) == ["second"]  # it rests on manifests that were made anew
    with pytest.raises(UserError, match="not among the stages selected"):
        run(loaded, tmp_path, Selection(only="tokenizer", force=("manifests",)))
    with pytest.raises(UserError, match="did you mean 'tokenizer'"):
        run(loaded, tmp_path, Selection(only="tokeniser"))
    with pytest.raises(UserError, match="does not depend"):
        run(loaded, tmp_path, Selection(start="second", stop="tokenizer"))


def test_a_failing_stage_leaves_nothing_that_looks_whole_and_keeps_what_is_made(recipe: Path, tmp_path: Path) -> None:
    broken = load_recipe(recipe, ("second.type=bpe", "second.vocab_size=5000"))
    with pytest.raises(UserError, match="too many pieces"):
        run(broken, tmp_path)
    store = tmp_path / "runs" / "store"
    done = {p.name.partition("-")[0] for p in store.iterdir() if is_done(p)}
    assert done == {"manifests", "tokenizer"}
    assert not (tmp_path / "runs" / "trial" / "second").exists()
    assert run(load_recipe(recipe), tmp_path) == ["second"]


def test_a_killed_stage_resumes_or_starts_over(recipe: Path, tmp_path: Path) -> None:
    """What a kill leaves is a partial folder: `manifests` takes its whole clips up, `tokenizer` starts over."""
    loaded = load_recipe(recipe)
    run(loaded, tmp_path)
    plan = {p.stage.name: p for p in make_plan(loaded, tmp_path / "runs")}
    clip = {}
    for name in ("manifests", "tokenizer"):
        folder = plan[name].folder
        folder.rename(partial(folder))
        (partial(folder) / "stage.json").unlink()
        clip[name] = partial(folder)
    (clip["tokenizer"] / "left over").touch()
    kept = next((clip["manifests"] / "clips").iterdir())
    state = kept.stat().st_mtime_ns, kept.stat().st_ino
    kept_name = kept.name
    assert run(loaded, tmp_path) == ["manifests", "tokenizer"]
    again = plan["manifests"].folder / "clips" / kept_name
    assert (again.stat().st_mtime_ns, again.stat().st_ino) == state
    assert not (plan["tokenizer"].folder / "left over").exists()
    assert not list((tmp_path / "runs" / "store").glob("*.partial"))


def test_results_travel_to_another_folder(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    run(loaded, tmp_path)
    store = tmp_path / "runs" / "store"
    for file in store.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".jsonl", ".tsv", ".txt"):
            text = file.read_text(encoding="utf-8")
            if file.name != "stage.json" and not file.name.startswith("."):
                assert str(store) not in text, file
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere", tmp_path / "other" / "runs")
    planned = make_plan(loaded, tmp_path / "other" / "runs")
    assert [p.stage.name for p in planned if p.runs] == []


def test_the_record_says_where_a_result_comes_from(recipe: Path, tmp_path: Path) -> None:
    run(load_recipe(recipe), tmp_path)
    folder = tmp_path / "runs" / "trial" / "tokenizer"
    record = read_record(folder)
    assert record.kind == "tokenizer"
    assert record.params["type"] == "char"
    assert record.inputs["text"][0].output == "train"
    assert {r.kind for _, r in ancestors(folder)} == {"tokenizer", "manifests"}
    assert "numpy" in record.environment["versions"]


def test_a_changed_stage_code_is_warned_about(recipe: Path, tmp_path: Path) -> None:
    loaded = load_recipe(recipe)
    run(loaded, tmp_path)
    path = tmp_path / "runs" / "trial" / "tokenizer" / "stage.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["environment"]["code"] = "another"
    path.write_text(json.dumps(data), encoding="utf-8")
    warnings = {p.stage.name: p.warning for p in make_plan(loaded, tmp_path / "runs")}
    assert "--force tokenizer" in warnings["tokenizer"]
    assert not warnings["manifests"]


def test_a_missing_outside_input_is_one_error_before_anything_runs(recipe: Path, release: Path, tmp_path: Path) -> None:
    shutil.rmtree(release)
    with pytest.raises(UserErrors, match="no such corpus"):
        run(load_recipe(recipe), tmp_path)
    assert not (tmp_path / "runs" / "trial").exists()


def test_a_split_that_the_release_lacks_is_an_error_of_the_stage_that_reads_it(
    recipe: Path, release: Path, tmp_path: Path
) -> None:
    (release / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"'manifests.dev' was not written"):
        run(load_recipe(recipe), tmp_path)
    assert is_done(tmp_path / "runs" / "trial" / "tokenizer")


def hlas(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from hlas.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_the_command_line_says_where_what_and_fix_and_exits_with_2(recipe: Path, tmp_path: Path) -> None:
    done = hlas("run", str(recipe), "--runs", str(tmp_path / "runs"), "--only", "second")
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "  fix: run the recipe with --to manifests first" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_plan_import_neither_torch_nor_nemo(recipe: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['hlas', *sys.argv[1:]]\n"
        "from hlas.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'nemo', 'lightning', 'numpy'}))\n"
    )
    demo = str(project_root() / "recipes/demo.yaml")
    for arguments in (["--help"], *(["plan", r, "--runs", str(tmp_path / "runs")] for r in (str(recipe), demo))):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", arguments


def test_gc_finds_what_no_recipe_leads_to(recipe: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run(load_recipe(recipe), tmp_path)
    assert find_old(runs) == []
    before = {path.name for path in (runs / "store").iterdir() if path.is_dir()}
    run(load_recipe(recipe, ["manifests.max_words=3"]), tmp_path)
    old = find_old(runs)
    assert {item.folder.name for item in old} == before
    assert all(item.size_bytes > 0 and not item.interrupted for item in old)
    (runs / "store" / "train-0123456789ab.partial").mkdir()
    assert [item.interrupted for item in find_old(runs)].count(True) == 1
    assert all(remove(item) for item in find_old(runs))
    assert find_old(runs) == []
    assert run(load_recipe(recipe, ["manifests.max_words=3"]), tmp_path) == []


def test_gc_leaves_what_is_being_made(recipe: Path, tmp_path: Path) -> None:
    store = tmp_path / "runs" / "store"
    made = store / "train-0123456789ab.partial"
    made.mkdir(parents=True)
    with (store / "train-0123456789ab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert [remove(item) for item in find_old(store.parent)] == [False]
    assert made.is_dir()
