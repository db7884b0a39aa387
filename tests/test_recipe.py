"""Recipes: everything that can be wrong in one is found in one pass, with its line."""

import re
from pathlib import Path

import pytest

from hlas.errors import UserError, UserErrors
from hlas.inputs import Edge, Outside
from hlas.paths import project_root
from hlas.plan import make_plan
from hlas.recipe import load_recipe
from hlas.summary import plan_lines
from hlas.validate import recipe_files, validate_project
from hlas.yamls import Document, merge, read_yaml

HEAD = "name: trial\nlanguage: manifests/languages/en.yaml\nstages:\n"
WHOLE = (
    HEAD
    + """  manifests: {spec: manifests/common_voice.yaml, release: ./no/such/release}
  tokenizer: {spec: tokenizers/char.yaml, text: manifests.train}
  train: {spec: models/quartznet_mini.yaml, train: manifests.train, dev: manifests.dev, tokenizer: tokenizer}
  logprobs: {acoustic: train, data: [manifests.dev, manifests.test]}
  greedy: {uses: decode, logprobs: logprobs}
  report: {systems: [greedy], baseline: greedy}
"""
)


def write(folder: Path, text: str, name: str = "trial.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def errors_of(path: Path, settings: tuple[str, ...] = ()) -> list[UserError]:
    with pytest.raises(UserErrors) as raised:
        load_recipe(path, settings)
    return list(raised.value.errors)


def test_a_whole_recipe(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, WHOLE))
    assert [s.name for s in recipe.stages] == ["manifests", "tokenizer", "train", "logprobs", "greedy", "report"]
    assert recipe.stage("logprobs").inputs["data"] == (Edge("manifests", "dev"), Edge("manifests", "test"))
    outside = recipe.stage("manifests").inputs["release"][0]
    assert isinstance(outside, Outside)
    assert outside.path == project_root() / "no/such/release"
    assert any("no/such/release" in note for note in recipe.notes)
    assert recipe.stage("train").plain["model"]["preprocessor"]["sample_rate"] == 16000  # ${model.sample_rate}


def test_five_mistakes_are_listed_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = (
        HEAD
        + """  manifests: {spec: manifests/common_voice.yaml, release: ./somewhere, limmit: 3}
  tokenizer: {spec: tokenizers/chr.yaml, text: manifests.train}
  train: {spec: models/quartznet_mini.yaml, train: manifests.train, dev: manifests.dvv, tokenizer: tokenizer, seed: x}
  logprobs: {acoustic: trian, data: [manifests.dev]}
  greedy: {uses: decod, logprobs: logprobs}
"""
    )
    path = write(tmp_path, text)
    errors = errors_of(path)
    found = {(e.where.rpartition(":")[2], e.problem.split(" (given")[0]): e.fix for e in errors}
    lines = {line for line, _ in found}
    assert lines == {"4", "5", "6", "7", "8"}
    assert "did you mean 'limit'?" in found["4", "manifests: unknown key 'limmit'"]
    assert "did you mean 'tokenizers/char.yaml'?" in str(errors)
    assert "did you mean 'dev'?" in str(errors) or "seed" in str(errors)
    assert "did you mean 'train'?" in found["7", "logprobs.acoustic: no stage 'trian'"]
    assert "did you mean 'decode'?" in found["8", "no stage kind 'decod'"]
    assert all(str(e).startswith(("/", "..", "trial", str(path.parent))) for e in errors)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("  greedy: {uses: decode, logprobs: manifests}", "it takes a stage of kind logprobs"),
        ("  greedy: {uses: decode, logprobs: [logprobs]}", "takes one input, not a list"),
        ("  greedy: {uses: decode}", "needs 'logprobs'"),
        ("  greedy: 3", "is not a mapping"),
        ("  ../../evil: {uses: decode, logprobs: logprobs}", "cannot be a stage's name"),
        ("  metrics.json: {uses: decode, logprobs: logprobs}", "cannot be a stage's name"),
        ("  greedy: {uses: decode, logprobs: logprobs, foreach: {width: 3}}", "not a mapping of lists"),
        ("  greedy: {uses: decode, logprobs: logprobs, foreach: {width: [3, '3']}}", "two variants are named"),
        ("  greedy: {uses: decode, logprobs: logprobs, beam_prune_logp: -.inf}", "not a finite number"),
        ("  greedy: {uses: decode, logprobs: logprobs, width: !!int abc}", "cannot read the value"),
        ("  greedy: {uses: decode, logprobs: logprobs, search: lm/beam_64.yaml, width: wide}", "greedy.width"),
        ("  greedy: {uses: decode, logprobs: logprobs}\n  greedy: {uses: decode, logprobs: logprobs}", "given twice"),
    ],
)
def test_single_mistakes(tmp_path: Path, line: str, problem: str) -> None:
    lines = WHOLE.splitlines()
    text = "\n".join(line if x.startswith("  greedy") else x for x in lines if not x.startswith("  report"))
    assert any(problem in str(e) for e in errors_of(write(tmp_path, text)))


@pytest.mark.parametrize(
    ("setting", "problem", "fix"),
    [
        (
            "freeze=encodr",
            "train.freeze: takes none, encoder, feature_encoder or {encoder_except_last: a whole number}, not 'encodr'",
            "did you mean 'encoder'?",
        ),
        ("freeze={encoder_exept_last: 2}", "train.freeze.encoder_exept_last: no such key", "'encoder_except_last'"),
        ("freeze={encoder_except_last: x}", "train.freeze.encoder_except_last: takes a whole number, not 'x'", ""),
        ("freeze=[none]", "or {encoder_except_last: a whole number}, not ['none']", ""),
        ("unfreeze={3: nonne}", "train.unfreeze.3: takes none,", "did you mean 'none'?"),
        ("unfreeze={third: none}", "train.unfreeze.third: no such key", "each key is a whole number"),
        ("precision=32", "train.precision: takes auto, 32, bf16-mixed or 16-mixed, not 32", "in quotes: '32'"),
        ("keep_outputs={speed: [1]}", "train.keep_outputs.speed: no such key", "did you mean 'speeds'?"),
        ("keep_outputs={speeds: [1, a]}", "train.keep_outputs.speeds.1: takes a number, not 'a'", ""),
        ("exp_manager.emaa=1", "train.exp_manager.emaa: no such key", "did you mean 'ema'?"),
        ("exp_manager.ema.deca=1", "train.exp_manager.ema.deca: no such key", "did you mean 'decay'?"),
        ("exp_manager.ema=true", "train.exp_manager.ema: takes a mapping of enable, decay, not True", ""),
        ("exp_manager.ema.decay=2", "train.exp_manager.ema: ema.decay lies between 0 and 1", ""),
        ("model.train_ds.batch_size=0", "train: model.train_ds.batch_size: 0 is not above 0", ""),
        (
            "keep_decoder_rows=true",
            "train.keep_decoder_rows: there is no decoder to keep rows of",
            "init, or pretrained",
        ),
        ("freeze=encoder", "train.freeze: encoder would keep random weights", "init, or pretrained"),
        ("freeze_batch_norm=true", "train.freeze_batch_norm: would keep statistics of nothing", "init, or pretrained"),
    ],
)
def test_a_value_that_a_training_cannot_have_is_one_error_in_the_yamls_words(
    tmp_path: Path, setting: str, problem: str, fix: str
) -> None:
    (error,) = errors_of(write(tmp_path, WHOLE), (f"train.{setting}",))
    assert problem in error.problem
    assert fix in error.fix
    assert error.where == f"--set train.{setting}"


def test_a_start_that_fits_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    kept = ("train.freeze=encoder", "train.keep_decoder_rows=true")
    load_recipe(path, (*kept, "train.pretrained=stt_ru_quartznet15x5"))
    load_recipe(path, (*kept, "train.init=./not/yet/there.nemo"))
    load_recipe(path, ("train.spec=models/whisper_ctc.yaml", "train.freeze=encoder"))  # has weights of its own
    without = ("train.spec=models/whisper_ctc.yaml", "train.freeze=encoder", "train.model.encoder.pretrained=false")
    (error,) = errors_of(path, without)
    assert "random weights" in error.problem
    (error,) = errors_of(path, ("train.init=./a/b.nemo", "train.pretrained=stt_ru_quartznet15x5"))
    assert "starts from two models" in error.problem


def test_an_init_that_is_no_nemo_file_is_one_error(tmp_path: Path) -> None:
    path, no_tar = write(tmp_path, WHOLE), tmp_path / "model.nemo"
    no_tar.write_bytes(b"weights " * 200)
    (error,) = errors_of(path, (f"train.init={no_tar}",))
    assert error.problem.startswith("train.init: ")
    assert error.problem.endswith("is no tar archive, and so no .nemo file")
    (error,) = errors_of(path, (f"train.init={tmp_path}",))
    assert "is a folder, not a .nemo file" in error.problem


BLOCKS = (
    HEAD
    + """  manifests: {spec: manifests/common_voice.yaml, release: ./no/such/release}
  tokenizer: {spec: tokenizers/char.yaml, text: manifests.train}
  train:
    spec: models/quartznet_mini.yaml
    train: manifests.train
    dev: manifests.dvv
    tokenizer: tokenizer
    foreach:
      seed:
        - 1
        - x
  logprobs:
    acoustic: train
    data:
      - manifests.dev
      - manifests.tst
  greedy: {uses: decode, logprobs: logprobs}
  report:
    systems:
      - greedy
      - gredy
"""
)


def test_each_mistake_of_an_edge_or_a_variant_is_at_its_own_line(tmp_path: Path) -> None:
    found = {e.problem: int(e.where.rpartition(":")[2]) for e in errors_of(write(tmp_path, BLOCKS))}
    lines = {problem: BLOCKS.splitlines()[line - 1].strip() for problem, line in found.items()}
    assert lines.pop("train@seed=x.seed: takes a whole number, not 'x'") == "- x"
    no_dvv = {p: line for p, line in lines.items() if "'manifests' has no output 'dvv'" in p}
    assert no_dvv == {f"train@seed={v}.dev: 'manifests' has no output 'dvv'": "dev: manifests.dvv" for v in ("1", "x")}
    no_tst = {p: line for p, line in lines.items() if "'manifests' has no output 'tst'" in p}
    assert set(no_tst.values()) == {"- manifests.tst"}
    assert lines.pop("report.systems: no stage 'gredy'") == "- gredy"  # after the two variants of greedy
    assert lines.keys() == no_dvv.keys() | no_tst.keys()


def test_what_is_no_list_or_twice_the_same_in_foreach_is_at_its_own_line(tmp_path: Path) -> None:
    text = BLOCKS.replace("dvv", "dev").replace("tst", "test").replace("- gredy", "- logprobs")
    (error, _) = errors_of(write(tmp_path, text.replace("        - x\n", "      freeze: none\n")))
    assert "not a mapping of lists" in error.problem
    assert text.splitlines()[int(error.where.rpartition(":")[2]) - 1].strip() == "- x"
    (error, _) = errors_of(write(tmp_path, text.replace("- x", "- 1")))
    assert "two variants are named 'seed=1'" in error.problem
    assert text.splitlines()[int(error.where.rpartition(":")[2]) - 1].strip() == "- x"


def test_merge_keys_bring_in_what_a_mapping_does_not_give(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc: {<<: *b, z: 4}\nd: {<<: [*a]}\ne: {<<: *a, x: 5, x: 6}\n",
    )
    document = read_yaml(path)
    assert document.data["b"] == {"x": 1, "y": 3}
    assert document.data["c"] == {"x": 1, "y": 3, "z": 4}
    problems = [str(error) for error in document.errors]
    assert ["'<<' takes one alias" in p for p in problems] == [True, False]
    assert "'x' is given twice" in problems[1]


def test_a_circle_is_named(tmp_path: Path) -> None:
    text = WHOLE.replace("tokenizer: tokenizer}", "tokenizer: tokenizer, init: train}")
    assert "in a circle: train" in str(errors_of(write(tmp_path, text))[0])


def test_a_class_off_the_allow_list_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    for target in ("os.system", "hlas.models.training.fit.fit", "nemo.collections.asr.modules.os.system"):
        (error,) = errors_of(path, (f"train.model.encoder._target_={target}",))
        assert f"model.encoder._target_: '{target}' is not allowed" in error.problem
        assert error.where == f"--set train.model.encoder._target_={target}"
    (error,) = errors_of(path, ("train.model.train_ds.tarred_audio_filepaths=pipe:id",))
    assert "is not a file" in error.problem
    (error,) = errors_of(path, (r"train.model.name=\${oc.env:HOME}",))
    assert "would be resolved only when the stage runs" in error.problem


def test_set_reaches_nested_keys_and_starts_paths_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, WHOLE)
    recipe = load_recipe(path, ("train.model.optim.lr=1e-3", "manifests.release=here/release", "manifests.limit=5"))
    assert recipe.stage("train").params.model["optim"]["lr"] == 0.001
    assert recipe.stage("train").params.model["optim"]["name"] == "novograd"
    assert recipe.stage("manifests").params.limit == 5
    release = recipe.stage("manifests").inputs["release"][0]
    assert isinstance(release, Outside)
    assert release.path == tmp_path / "here/release"


@pytest.mark.parametrize("setting", ["train", "train=3", "trian.seed=3", "train..seed=3", "train.seed=[1"])
def test_a_malformed_set_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(UserError, match="--set"):
        load_recipe(write(tmp_path, WHOLE), (setting,))


def test_extends_merges_deeply_and_null_removes(tmp_path: Path) -> None:
    write(tmp_path, WHOLE, "base.yaml")
    child = write(
        tmp_path, "extends: base.yaml\nname: child\nstages:\n  train: {seed: 7}\n  report: null\n  greedy: null\n"
    )
    recipe = load_recipe(child)
    assert [s.name for s in recipe.stages] == ["manifests", "tokenizer", "train", "logprobs"]
    assert recipe.stage("train").params.seed == 7
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    with pytest.raises(UserError, match="circle"):
        load_recipe(tmp_path / "a.yaml")


def test_foreach_makes_variants_that_reach_the_report(tmp_path: Path) -> None:
    text = WHOLE.replace("tokenizer: tokenizer}", "tokenizer: tokenizer, foreach: {seed: [1, 2]}}")
    recipe = load_recipe(write(tmp_path, text))
    names = [s.name for s in recipe.stages]
    assert names.count("tokenizer") == 1
    assert {"train@seed=1", "train@seed=2", "greedy@seed=1", "greedy@seed=2", "report"} < set(names)
    assert recipe.stage("logprobs@seed=2").inputs["acoustic"] == (Edge("train@seed=2"),)
    assert recipe.stage("train@seed=2").params.seed == 2
    assert recipe.stage("report").inputs["systems"] == (Edge("greedy@seed=1"), Edge("greedy@seed=2"))


def test_variants_meet_only_their_own_kind(tmp_path: Path) -> None:
    text = WHOLE.replace("./no/such/release}", "./no/such/release, foreach: {limit: [10, 20]}}")
    text = text.replace("tokenizer: tokenizer}", "tokenizer: tokenizer, foreach: {model.optim.lr: [0.01, 0.02]}}")
    recipe = load_recipe(write(tmp_path, text))
    assert sum(s.kind == "train" for s in recipe.stages) == 4
    train = recipe.stage("train@limit=10@model.optim.lr=0.02")
    assert train.inputs["train"] == (Edge("manifests@limit=10", "train"),)
    assert train.inputs["dev"] == (Edge("manifests@limit=10", "dev"),)
    assert train.params.model["optim"]["lr"] == 0.02
    logprobs = recipe.stage("logprobs@limit=10@model.optim.lr=0.02")
    assert logprobs.inputs["acoustic"] == (Edge("train@limit=10@model.optim.lr=0.02"),)
    assert logprobs.inputs["data"] == (Edge("manifests@limit=10", "dev"), Edge("manifests@limit=10", "test"))
    (report,) = (s for s in recipe.stages if s.kind == "report")
    assert len(report.inputs["systems"]) == 4


def test_an_unset_variable_is_a_note_and_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HLAS_TEST_ROOT", raising=False)
    path = write(tmp_path, WHOLE.replace("./no/such/release", "'${oc.env:HLAS_TEST_ROOT}/hsb'"))
    assert any("unset" in note for note in load_recipe(path).notes)
    monkeypatch.setenv("HLAS_TEST_ROOT", str(tmp_path))
    release = load_recipe(path).stage("manifests").inputs["release"][0]
    assert isinstance(release, Outside)
    assert release.path == tmp_path / "hsb"


def test_merge() -> None:
    base, over = (
        Document({"a": {"b": 1, "c": [1, 2]}, "d": 1}),
        Document({"a": {"b": 2, "c": [3]}, "d": None, "e": None}),
    )
    assert merge(base, over).data == {"a": {"b": 2, "c": [3]}, "e": None}
    assert base.data == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_yaml_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    document = read_yaml(write(tmp_path, "a: 1e-3\nb: no\nc: true\nd: 2024-01-01\ne: [.5, -3, 1.e5, 017x]\n"))
    assert document.data == {"a": 0.001, "b": "no", "c": True, "d": "2024-01-01", "e": [0.5, -3, 1e5, "017x"]}
    assert document.place("e", 1).endswith(":5")


BOMB = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\n", "not YAML"),
        ("- a\n", "not a mapping"),
        ("a: &x [*x]\n", "more than 40 deep"),
        ("a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + BOMB, "more than 100,000 keys"),
        ("a: !!python/object/apply:os.system ['true']\n", "os.system"),
    ],
)
def test_bad_yaml_is_a_user_error(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, text)
    try:
        found = [str(e) for e in read_yaml(path).errors]
    except UserError as error:
        found = [str(error)]
    assert any(problem in text for text in found)


def test_every_shipped_recipe_and_spec_is_valid() -> None:
    files = recipe_files()
    assert {f.stem for f in files} >= {"demo", "debug", "hsb_quartznet"}
    result = validate_project()
    assert [str(e) for e in result.errors] == []
    assert result.checked["recipes"] == len(list((project_root() / "recipes").rglob("*.y*ml")))


CS = project_root() / "manifests/languages/cs.yaml"
OTHER = "  manifests_cs: {uses: manifests, spec: manifests/common_voice.yaml, release: ./no/cs, language: LANGUAGE}\n"


def test_a_stage_may_name_its_own_language(tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE + OTHER.replace("LANGUAGE", "manifests/languages/cs.yaml"))
    recipe = load_recipe(path)
    assert recipe.stage("manifests_cs").language == CS
    assert "language" not in recipe.stage("manifests_cs").plain
    assert recipe.stage("manifests").language == recipe.stage("report").language == recipe.language
    assert recipe.stage("tokenizer").language is None
    assert recipe.languages == {CS, recipe.language}
    planned = {p.stage.name: p for p in make_plan(recipe, tmp_path / "runs")}
    assert planned["manifests_cs"].ingredients["language"]["code"] == "cs"
    assert planned["manifests"].ingredients["language"]["code"] == "en"
    assert [line.partition(" ")[0] for line in plan_lines(list(planned.values())) if "cs.yaml" in line] == [
        "manifests_cs"
    ]


def test_a_stages_own_language_changes_its_fingerprint_as_the_recipes_does(tmp_path: Path) -> None:
    def prints(text: str) -> dict[str, str]:
        recipe = load_recipe(write(tmp_path, text))
        return {p.stage.name: p.fingerprint for p in make_plan(recipe, tmp_path / "runs")}

    of_recipe = prints(WHOLE.replace("languages/en.yaml", "languages/cs.yaml"))
    of_stage = prints(WHOLE.replace("such/release}", "such/release, language: manifests/languages/cs.yaml}"))
    assert of_stage["train"] == of_recipe["train"] != prints(WHOLE)["train"]
    assert of_stage["greedy"] != of_recipe["greedy"]  # the decode stage still has the recipe's rules


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (WHOLE + OTHER.replace("LANGUAGE", "manifests/languages/cz.yaml"), "no language file"),
        (WHOLE + OTHER.replace("LANGUAGE", "cs"), "'cs' is not a path"),
        (WHOLE + OTHER.replace("LANGUAGE", "[cs]"), "is not a path"),
        (WHOLE + OTHER.replace("LANGUAGE", "manifests/augment.yaml"), "unknown key 'clip_s'"),
        (WHOLE.replace("text: manifests.train}", "text: manifests.train, language: ./x.yaml}"), "uses no language"),
    ],
)
def test_a_stages_language_that_is_none_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    errors = errors_of(write(tmp_path, text))
    (error,) = (e for e in errors if problem in e.problem)
    assert re.search(r":\d+$", error.where)
    assert not any("needs a language" in e.problem for e in errors)


def test_a_recipe_without_a_language_needs_one_on_every_stage_that_uses_one(tmp_path: Path) -> None:
    text = WHOLE.replace("language: manifests/languages/en.yaml\n", "")
    named = "language: manifests/languages/cs.yaml"
    problems = [e.problem for e in errors_of(write(tmp_path, text))]
    assert problems == [f"a '{kind}' stage needs a language" for kind in ("manifests", "decode", "report")]
    text = text.replace("such/release}", f"such/release, {named}}}").replace("baseline: greedy}", f"{named}}}")
    text = text.replace("uses: decode,", f"uses: decode, {named},")
    assert load_recipe(write(tmp_path, text)).languages == {CS}


def test_the_code_that_whisper_is_told_is_no_language_of_the_stage(tmp_path: Path) -> None:
    whisper = "  w: {uses: transcribe, spec: models/whisper_base.yaml, data: manifests.test, language: LANGUAGE}\n"
    told = load_recipe(write(tmp_path, WHOLE + whisper.replace("LANGUAGE", "pl"))).stage("w")
    assert (told.params.language, told.language) == ("pl", project_root() / "manifests/languages/en.yaml")
    own = load_recipe(write(tmp_path, WHOLE + whisper.replace("LANGUAGE", "manifests/languages/cs.yaml")))
    assert (own.stage("w").params.language, own.stage("w").language) == ("", CS)
