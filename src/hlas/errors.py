"""The one error a user meets: where it is, what is wrong, how to mend it."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, a missing program or an impossible request; the command line prints it and exits with 2."""

    def __init__(self, where: str, problem: str, fix: str = "") -> None:
        super().__init__(where, problem, fix)
        self.where, self.problem, self.fix = where, problem, fix

    @property
    def errors(self) -> tuple["UserError", ...]:
        """The error itself; UserErrors has several."""
        return (self,)

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" + (f"\n  fix: {self.fix}" if self.fix else "")


class UserErrors(UserError):
    """Several errors found in one pass, so that they are mended in one pass."""

    def __init__(self, errors: Iterable[UserError]) -> None:
        self._errors = tuple({str(error): error for error in errors}.values())  # each once, in the order found
        super().__init__(f"{len(self._errors)} errors", "")

    @property
    def errors(self) -> tuple[UserError, ...]:
        """The errors, each once."""
        return self._errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self._errors)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'did you mean …?' for the nearest known name, else the list of those there are."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return "one of: " + ", ".join(choices) if choices else ""
