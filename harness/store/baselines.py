"""Baselines: accepted runs, each a whole run folder under a name, that later runs are compared with.

::

    baselines/NAME/           the accepted run: every measured file, run.json, report and gate outputs
    baselines/history.jsonl   one line per acceptance: who, when, why, which run, its gate's verdict, what was measured

The folder is ``./baselines``, the one in ``HARNESS_BASELINES``, or the one given.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError, InputError, did_you_mean
from harness.files import digest_file, read_rows, replace_folder, write_json
from harness.store import seals
from harness.store.acceptance import Acceptance, Measured
from harness.store.folder import RecordWriter, RunFolder
from harness.store.paths import without_paths
from harness.store.redaction import redact
from harness.store.schema import RunManifest

VARIABLE = "HARNESS_BASELINES"
HISTORY = "history.jsonl"
ALSO_COPIED = ("run.json", "report.html", "gate.json", "gate.junit.xml", "gate.md")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Measure = Callable[[RunFolder, RunFolder | None], Measured]  # of the run, beside the one that it replaces


class Baselines:
    """The folder of named baselines."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root) if root is not None else Path(os.environ.get(VARIABLE) or "baselines")

    def names(self) -> tuple[str, ...]:
        """Return the names of all baselines, sorted."""
        if not self.root.is_dir():
            return ()
        found = {path.name.removeprefix(".").removesuffix(".previous") for path in self.root.iterdir() if path.is_dir()}
        return tuple(sorted(name for name in found if self._accepted(name) is not None))

    def find(self, name_or_path: str) -> RunFolder:
        """Return the baseline of that name, or the run folder at that path."""
        path = Path(name_or_path)
        if (path / "run.json").is_file() and not self._accepted(name_or_path):
            return RunFolder(path)
        return self.accepted(name_or_path)

    def accepted(self, name: str) -> RunFolder:
        """Return the baseline of that name; raise InputError if there is none."""
        folder = self._accepted(name)
        if folder is not None:
            return RunFolder(folder)
        names = self.names()
        known = f" Baselines: {', '.join(names)}." if names else f" {self.root} contains none; see 'baseline accept'."
        raise InputError(f"There is no baseline '{name}'.{did_you_mean(name, names) or known}")

    def history(self) -> list[Acceptance]:
        """Return every acceptance, oldest first."""
        path = self.root / HISTORY
        return list(read_rows(Acceptance, path, torn_tail="ignore")) if path.exists() else []

    def accept(
        self,
        run: Path | str,
        name: str,
        reason: str,
        *,
        who: str | None = None,
        force: bool = False,
        redact_text: bool = False,
        measure: Measure | None = None,
        now: datetime | None = None,
    ) -> Acceptance:
        """Copy a finished run to ``name`` and record who accepted it, when and why; return the record.

        ``measure`` says what is recorded of its metrics (``harness.gating.accepted``); without it, nothing is.

        Raises HarnessError for a run that is incomplete, was edited, has changed since its gate judged it, or did not
        pass its gate (``force`` overrides only the last), and InputError for an invalid name or an empty reason. A run
        that was never gated is accepted, and the record says so.
        """
        if not _NAME.fullmatch(name) or name.endswith(".previous") or name.lower() == HISTORY:
            raise InputError(f"'{name}' is not a valid baseline name: use up to 64 letters, digits, '.', '_' or '-'.")
        if not reason.strip():
            raise InputError("Give the reason for accepting this run: --reason.")
        folder = RunFolder(run)
        manifest = folder.read_manifest()
        if manifest.state != "complete":
            raise HarnessError(f"The run in {folder.root} is {manifest.state}; only a complete run can be accepted.")
        problems = seals.check(folder, manifest)
        if problems:
            raise HarnessError(f"The run in {folder.root} cannot be accepted: {problems[0]}")
        verdict = gate_verdict(folder)
        if verdict in ("outdated", "unreadable"):
            raise HarnessError(f"The gate's verdict in {folder.root} is {verdict}. Run the gate again.")
        forced = verdict not in ("pass", "none")
        if forced and not force:
            raise HarnessError(
                f"The gate of {folder.root} says '{verdict}', so it cannot become a baseline. "
                "Fix the run and gate it again, or accept it anyway with --force."
            )
        before = self._accepted(name)
        replaced = RunFolder(before) if before else None
        measured = measure(folder, replaced) if measure else None
        numbers_before = seals.numbers_digest(replaced) if replaced else None
        self._copy(folder, manifest, name, redact_text)
        note = Acceptance(
            name=name,
            when=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
            who=who or _user(),
            reason=reason.strip(),
            run=folder.root.resolve().name,
            run_digest=digest_file(folder.manifest_path),
            numbers_digest=seals.numbers_digest(folder),
            gate=verdict,
            forced=forced,
            redacted=redact_text,
            replaced=numbers_before,
            references_digest=manifest.digests.get(seals.REFERENCES),
            prompts_digest=manifest.digests.get(seals.PROMPTS),
            measured=measured and without_paths(measured),
        )
        with RecordWriter(self.root / HISTORY) as history:
            history.append([note])
        return note

    def _accepted(self, name: str) -> Path | None:
        """Return a baseline's folder; ``.NAME.previous`` if an acceptance was killed between its two renames."""
        places = (self.root / name, self.root / f".{name}.previous") if _NAME.fullmatch(name) else ()
        return next((place for place in places if (place / "run.json").is_file()), None)

    def _copy(self, folder: RunFolder, manifest: RunManifest, name: str, redact_text: bool) -> None:
        """Copy the measured files atomically: readers see the old baseline or the new one.

        A baseline is shared, so that the machine's absolute paths are left out of ``run.json``. Its digest changes with
        that, and a verdict of an earlier version gets the digest of the numbers that it is on.
        """
        numbers = seals.numbers_digest(folder)
        with replace_folder(self.root / name) as copy:
            for each in (folder, *folder.further_sets().values()):
                _copy_run(each, copy / each.root.relative_to(folder.root))
            if (gate := copy / "gate.json").is_file() and gate_verdict(folder) != "unreadable":
                found = json.loads(gate.read_bytes())
                write_json(gate, {**found, "run": {"numbers_digest": numbers, **found["run"]}})
            if redact_text:
                redact(RunFolder(copy), without_paths(manifest))


def _copy_run(folder: RunFolder, copy: Path) -> None:
    also = {also: folder.root / also for also in ALSO_COPIED if (folder.root / also).is_file()}
    for inside, path in {**seals.sealed_files(folder), **also}.items():
        (copy / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy / inside)
    RunFolder(copy).write_manifest(without_paths(folder.read_manifest()))


def gate_verdict(folder: RunFolder) -> str:
    """Return the verdict in the run's gate.json; "none" without that file, "unreadable" if it is invalid.

    A verdict on other numbers, or perhaps on others, is "outdated". An inconclusive one that the policy let through
    (exit code 0) is a pass.
    """
    path = folder.root / "gate.json"
    if not path.is_file():
        return "none"
    try:
        found = json.loads(path.read_bytes())
        verdict, code, facts = str(found["verdict"]), found["exit_code"], dict(found["run"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "unreadable"
    if not seals.judged(folder, numbers=facts.get("numbers_digest"), manifest=facts.get("digest")):
        return "outdated"
    if verdict == "inconclusive" and code == 0:
        return "pass"
    return verdict if verdict in ("pass", "fail", "error", "inconclusive") else "unreadable"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
