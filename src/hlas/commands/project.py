"""doctor, test, check: the installation and the code itself."""

import typer


def doctor() -> None:
    """Say what is present and what is missing, each with its fix."""
    from hlas.doctor import examine

    findings = examine()
    for finding in findings:
        typer.echo(finding.line())
    raise typer.Exit(1 if any(f.state == "missing" for f in findings) else 0)


def test(context: typer.Context) -> None:
    """Run the test suite; further arguments go to pytest."""
    from hlas.quality import run_tests

    raise typer.Exit(run_tests(context.args))


def check() -> None:
    """Run ruff, the format check, mypy and `validate`."""
    from hlas.quality import run_checks

    raise typer.Exit(run_checks())
