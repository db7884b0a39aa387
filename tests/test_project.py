"""The project's own files: pins agree, noun folders hold no Python, the launcher and the README say the same."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from hlas.paths import project_root

ROOT = project_root()
NOUNS = ("recipes", "manifests", "tokenizers", "models", "lm")
PIN = re.compile(r"^([A-Za-z0-9_.\-]+)(?:\[[a-z]+\])?==([^\s;]+)$")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = PIN.match(line)
            assert match, f"not a pin: {line}"
            found[canonical(match[1])] = match[2]
    return found


def test_noun_folders_hold_no_python_and_a_readme() -> None:
    """An importable `tokenizers` at the root would shadow Hugging Face's and break transformers."""
    for noun in NOUNS:
        assert not list((ROOT / noun).rglob("*.py")), noun
        assert (ROOT / noun / "README.md").is_file(), noun
        assert list((ROOT / noun).rglob("*.yaml")), noun
    code = "import tokenizers; print(tokenizers.Tokenizer.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "Tokenizer"


def test_every_dependency_is_pinned_and_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {canonical(re.split(r"[\[<>=!~ ]", requirement)[0]) for requirement in named}
    assert names <= set(pins())
    explained = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower().replace("_", "-")
    assert [name for name in sorted(names) if name not in explained] == []


def test_environment_yml_has_the_pins_of_constraints_txt() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert "--constraint constraints.txt" in pip
    assert "--editable ." in pip
    named = {canonical(match[1]): match[2] for entry in pip if (match := PIN.match(entry))}
    assert {"torch", "numpy", "pyarrow", "datasets", "nemo-toolkit"} <= set(named)
    assert named == {name: pins()[name] for name in named}


def test_the_installed_versions_are_the_pinned_ones() -> None:
    from importlib import metadata

    pinned = pins()
    for name in ("torch", "numpy", "pyarrow", "datasets", "nemo-toolkit", "pyctcdecode", "jiwer", "faster-whisper"):
        assert metadata.version(name).partition("+")[0] == pinned[name]


def test_the_readme_names_files_and_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first_screen = "\n".join(readme.splitlines()[:40])
    assert "./hlas run recipes/demo.yaml" in first_screen
    assert "./hlas test" in first_screen
    for path in set(
        re.findall(r"(?<![\w/.…-])(?:recipes|manifests|tokenizers|models|lm|tools|docs|src/hlas)/[\w./-]*\w", readme)
    ):
        if "XX" not in path and "xx" not in path.lower().split("/")[-1][:3]:
            assert (ROOT / path).exists(), path
    commands = set(re.findall(r"\./hlas ([a-z]+)", readme))
    helped = subprocess.run(
        [sys.executable, "-c", "from hlas.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert commands
    assert [c for c in commands if f"\n  {c} " not in helped] == []


def test_the_tree_in_the_readme_has_every_module() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for package in sorted(p.parent.name for p in (ROOT / "src/hlas").glob("*/__init__.py")):
        assert f"{package}/" in readme, package
    for module in sorted(p.name for p in (ROOT / "src/hlas").glob("*.py")):
        if module != "__init__.py":
            assert module in readme, module


def test_shell_scripts_are_well_formed() -> None:
    scripts = [ROOT / "hlas", ROOT / ".ci/run", *(ROOT / "tools").rglob("*.sh")]
    assert len(scripts) >= 3
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert Path(script).stat().st_mode & 0o111, script
