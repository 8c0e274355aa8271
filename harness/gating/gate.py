"""``gate``: judge a run folder by a thresholds file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import InputError
from harness.gating import outputs
from harness.gating.gather import Question, candidate_of, gather
from harness.gating.judge import judge
from harness.gating.policy import load_policy
from harness.gating.sentences import listed
from harness.gating.sides import Side, facts_of
from harness.gating.statistics import RunStatistics, known_metrics
from harness.gating.verdict import EXIT_CODES, CheckResult, GateResult, VerdictName, overall
from harness.store import baselines as named
from harness.store import seals
from harness.store.folder import RunFolder
from harness.store.paths import without_paths
from harness.store.schema import RunManifest


def gate(
    run: Path | str,
    thresholds: Path | str,
    *,
    baseline: Path | str | None = None,
    candidate: str | None = None,
    baselines: Path | str | None = None,
    first: bool = False,
    write: bool = True,
    now: datetime | None = None,
) -> GateResult:
    """Judge a finished run and, unless ``write`` is false, write gate.json, gate.junit.xml and gate.md to its folder.

    ``thresholds`` is a path or the name of a shipped file. ``baseline`` is a run folder or the name of an accepted one
    in ``baselines``, and replaces every baseline that the file names. ``candidate`` overrides the file's.
    ``first`` says that no run was accepted yet: checks that compare with one are left out, and a warning names them.
    Raises InputError (exit code 2) if a name or a file cannot be used; nothing is written then.
    An unfinished or edited run is an error in the result (exit code 4), not an exception.
    """
    if first and baseline is not None:
        raise InputError("--first is for when there is no baseline yet. Leave out either it or --baseline.")
    folder = RunFolder(run)
    manifest = folder.read_manifest()
    loaded = load_policy(thresholds)
    left_out = [check.id for check in loaded.checks if first and check.needs_baseline]
    policy = loaded.policy.model_copy(
        update={"checks": tuple(check for check in loaded.checks if check.id not in left_out)}
    )
    store = named.Baselines(baselines)
    problems = unusable(folder, manifest)
    if not policy.checks:
        which = "no checks that need no baseline" if left_out else "no checks"
        problems.append(f"{loaded.source} has {which}: nothing was judged.")
    opened: dict[str, Side | str] = {}
    sets: dict[Path, Side] = {}
    checks: tuple[CheckResult, ...] = ()
    warnings = [f"Left out, because there is no baseline yet: {listed(left_out)}."] if left_out else []
    name = candidate or loaded.policy.candidate or ""
    if not problems:
        side = side_of(folder, manifest)
        name = candidate_of(loaded, side, candidate)

        chosen = None if baseline is None else str(baseline)

        def open_baseline(which: str) -> Side | str:
            if which not in opened:
                opened[which] = opened_side(store.find(which) if which == chosen else store.accepted(which))
            return opened[which]

        def open_set(of: Side, which: str) -> Side:
            set_folder = of.folder.set_folder(which)
            if which == of.manifest.sets[0]:
                return of
            if set_folder.root not in sets:
                found = side_of(set_folder, set_folder.read_manifest(), of.name)
                sets[set_folder.root] = replace(found, set=which)
            return sets[set_folder.root]

        if chosen is not None:
            store.find(chosen)  # reject a wrong name even if no check uses it
        question = Question(loaded, side, name, open_baseline, open_set, chosen, first)
        checks = judge(policy, gather(question))
        if chosen is not None and chosen not in opened:
            warnings.append("--baseline was given, but no check compares with a baseline.")
    verdict = overall(checks, tuple(problems))
    defaults = loaded.policy.defaults
    lenient = verdict == "inconclusive" and defaults.on_inconclusive == "pass"
    if lenient:
        warnings.append("Inconclusive checks were allowed to pass because of 'on_inconclusive: pass'.")
    resamples, seed = settings(manifest)
    result = GateResult(
        schema=1,
        verdict=verdict,
        exit_code=0 if lenient else EXIT_CODES[verdict],
        sentence=_sentence(verdict, name, checks, problems),
        candidate=name,
        run=facts_of(folder, manifest),
        baselines={key: facts_of(one.folder, one.manifest) for key, one in opened.items() if isinstance(one, Side)},
        thresholds=Path(loaded.source).name,
        thresholds_digest=loaded.digest,
        confidence=defaults.confidence,
        min_coverage=defaults.min_coverage,
        on_inconclusive=defaults.on_inconclusive,
        resamples=resamples,
        seed=seed,
        checks=checks,
        problems=tuple(problems),
        warnings=tuple(warnings),
        created=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
    )
    result = without_paths(result)  # it is shared
    if write:
        outputs.write(folder, result)
    return result


def unusable(folder: RunFolder, manifest: RunManifest) -> list[str]:
    """Return why a run cannot be judged: it is not complete, or its files were changed after it finished."""
    if manifest.state != "complete":
        why = f" ({manifest.error})" if manifest.error else ""
        return [f"The run in {folder.root} is not complete but {manifest.state}{why}. Finish it first."]
    return seals.check(folder, manifest)


def side_of(folder: RunFolder, manifest: RunManifest, name: str = "") -> Side:
    """Return a run as checks read it; a baseline has a ``name``."""
    summary = folder.read_summary()
    registry = known_metrics(summary)
    resamples, seed = settings(manifest)
    statistics = RunStatistics(folder, registry=registry, resamples=resamples, seed=seed)
    return Side(folder, manifest, summary, registry, statistics, name)


def opened_side(folder: RunFolder, name: str | None = None) -> Side | str:
    """Return a baseline, named as its folder unless ``name`` is given, or why it cannot be compared with."""
    manifest = folder.read_manifest()
    problems = unusable(folder, manifest)
    name = folder.root.resolve().name if name is None else name
    return f"Baseline {name} cannot be compared with: {problems[0]}" if problems else side_of(folder, manifest, name)


def _sentence(verdict: VerdictName, candidate: str, checks: tuple[CheckResult, ...], problems: list[str]) -> str:
    if problems:
        return problems[0]
    deciding = [check for check in checks if check.decides]
    that = [check.id for check in deciding if check.verdict == verdict]
    warned = sum(not check.decides and check.verdict != "pass" for check in checks)
    also = f" {warned} warning{'s' if warned > 1 else ''}." if warned else ""
    if verdict == "pass":
        if not deciding:
            return f"Nothing can stop {candidate}: every check only warns.{also}"
        met = "its only check" if len(deciding) == 1 else f"all {len(deciding)} checks"
        return f"{candidate} meets {met}.{also}"
    words = {"fail": "failed", "error": "could not be judged", "inconclusive": "are inconclusive"}
    return f"{candidate}: {len(that)} of {len(checks)} checks {words[verdict]} ({listed(that)}).{also}"


def settings(manifest: RunManifest) -> tuple[int, int]:
    """Return the run's own bootstrap resamples and seed, so that gate and summary agree."""
    stats = manifest.config.get("stats")
    resamples = stats.get("resamples") if isinstance(stats, dict) else None
    seed = manifest.config.get("seed")
    usable = isinstance(resamples, int) and 100 <= resamples <= 1_000_000
    return (resamples if usable and resamples else 10_000), (seed if isinstance(seed, int) and seed >= 0 else 42)
