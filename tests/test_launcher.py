"""The launcher's decisions, with a stand-in for the environment that it makes: when pip runs, and what fails how."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hlas.paths import project_root

PYTHON = """#!/bin/sh
echo "$@" >> "{log}"
if [ -e "{fail}" ]; then echo "no matching distribution"; exit 1; fi
"""
COMMAND = '#!/bin/sh\necho "hlas $@"\nexit 7\n'


class Checkout:
    """A copy of the files the launcher reads, beside an environment whose programs only take notes."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a checkout"
        self.log, self.fail = folder / "pip.log", folder / "fail"
        programs = self.root / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name in ("hlas", "constraints.txt", "pyproject.toml"):
            shutil.copy(project_root() / name, self.root / name)
        for name, text in (("python", PYTHON.format(log=self.log, fail=self.fail)), ("hlas", COMMAND)):
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("HLAS_")}
        command = [str(self.root / "hlas"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | environment)

    def pip_calls(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_installs_once_and_passes_the_command_on(checkout: Checkout) -> None:
    done = checkout.run("run", "a recipe.yaml", HLAS_PIP_ARGS="--extra-index-url https://example.org/cpu")
    assert (done.stdout, done.returncode) == ("hlas run a recipe.yaml\n", 7)
    first, second = checkout.pip_calls()
    for call in (first, second):
        assert call.startswith("-m pip install --extra-index-url https://example.org/cpu -c ")
        assert "constraints.txt" in call
    assert first.endswith(" torch")
    assert second.endswith(f"-e {checkout.root}")
    checkout.run("plan")
    assert len(checkout.pip_calls()) == 2


def test_it_installs_again_when_the_pins_change(checkout: Checkout) -> None:
    checkout.run()
    pins = checkout.root / "constraints.txt"
    pins.write_text(pins.read_text(encoding="utf-8") + "another==1.0\n", encoding="utf-8")
    checkout.run()
    assert len(checkout.pip_calls()) == 4


def test_a_failed_installation_says_so_and_is_tried_again(checkout: Checkout) -> None:
    checkout.fail.touch()
    done = checkout.run("plan")
    assert done.returncode == 2
    assert "no matching distribution" in done.stderr
    assert "error: pip could not install" in done.stderr
    assert "  fix: " in done.stderr
    checkout.fail.unlink()
    assert checkout.run("plan").stdout == "hlas plan\n"


def test_it_is_found_through_a_link(checkout: Checkout, tmp_path: Path) -> None:
    link = tmp_path / "hlas"
    link.symlink_to(checkout.root / "hlas")
    assert subprocess.run([str(link), "x"], capture_output=True, text=True, check=False).stdout == "hlas x\n"


def test_without_a_fitting_python_the_way_out_is_named(checkout: Checkout, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "cat", "cksum", "dirname", "readlink", "mkdir", "flock"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    shutil.rmtree(checkout.root / ".venv")
    done = checkout.run("plan", PATH=str(programs))
    assert done.returncode == 2
    assert "no Python 3.11 or 3.12 here" in done.stderr
    assert not (checkout.root / ".venv").exists()
