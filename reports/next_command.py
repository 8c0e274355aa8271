"""The command for the next step, as its user would type it: with this run's path, ready to copy."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.gating.verdict import CheckResult
from reports.contenders import chosen
from reports.gate_view import checks_with, decisive
from reports.view import RunView

PROGRAM = "python -m harness"


@dataclass(frozen=True)
class Command:
    """A command line, and what it is for."""

    purpose: str
    line: str


def next_command(view: RunView) -> Command | None:
    """Return the command that helps next, or None where the command that made the run is unknown."""
    run = _path(view)
    if view.manifest.state != "complete":
        return _command("To resume the run:", _again(view))
    if any(not check.ok for check in view.manifest.sanity):
        return _command("To measure again, once that is repaired:", _again(view))
    if view.gate is None:
        best = chosen(view)
        named = f" --candidate {shlex.quote(best)}" if best and best != view.candidate else ""
        return Command("A gate decides. To write its thresholds:", f"{PROGRAM} thresholds init {run}{named}")
    judge = f"{PROGRAM} gate {run} --thresholds {shlex.quote(view.gate.thresholds)}"
    if view.gate.verdict == "pass":
        accept = f'{PROGRAM} baseline accept {run} --name main --reason "…"'
        return Command("To compare later runs with this one:", accept)
    found = checks_with(view.gate, view.gate.verdict)
    if view.gate.verdict == "inconclusive" and (larger := _larger(view, found)):
        return Command("To measure more of the held-out dialogues:", larger)
    if not found:
        return Command("To judge the run again:", judge)
    check = decisive(found)
    return Command(f"To see how “{check.id}” was judged:", f"{judge} --explain {shlex.quote(check.id)}")


def _command(purpose: str, line: str) -> Command | None:
    return Command(purpose, line) if line else None


def _path(view: RunView) -> str:
    """Return the run's path: relative where that leads below the current folder, else its name.

    A page is passed on, and a path of this machine says more than its reader needs.
    """
    root = view.folder.root
    if root.is_absolute():
        root = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else Path(root.name)
    return shlex.quote(str(root))


def _again(view: RunView, *more: str, out: str = "") -> str:
    """Return the command that made the run, with its folder and without a limit if another is given."""
    if view.folder.whole() is not None:  # a set is measured with its run
        return ""
    made = view.manifest.provenance.get("command")
    try:
        words = shlex.split(made) if isinstance(made, str) else []
    except ValueError:
        return ""
    if next((word for word in words if word in {"run", "score"}), "") != "run":
        return ""
    kept, skip = [], False
    for word in words[words.index("run") + 1 :]:
        if skip:
            skip = False
        elif word in {"--out", "--limit"} and (word == "--out" or more):
            skip = True
        elif not word.startswith(("--out=", "--limit=") if more else "--out="):
            kept.append(shlex.quote(word))
    return " ".join([PROGRAM, "run", *kept, *more, "--out", out or _path(view)])


def _larger(view: RunView, undecided: list[CheckResult]) -> str:
    """Return the command that measures enough of the held-out dialogues; empty if there are not that many."""
    needed = [check.needed_n for check in undecided if check.units == "dialogues" and check.needed_n]
    available, measured = (view.manifest.held_out.get(key) for key in ("held_out", "measured"))
    if not needed or not isinstance(available, int) or not isinstance(measured, int):
        return ""
    asked = min(max(needed), available)
    if asked <= measured:
        return ""
    return _again(view, "--limit", str(asked), out=f"{_path(view)}-{asked}")
