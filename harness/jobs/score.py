"""``harness score``: metrics, statistics and report for replies generated outside the harness, or for a saved run.

Needs no model and, without a neural metric, no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError, did_you_mean
from harness.files import digest_file, digest_value
from harness.jobs.compute import ScoreConfig, compute
from harness.jobs.guard import failures_recorded, locked, refuse_edited, refuse_other
from harness.jobs.reply_files import read_replies, run_and_variant
from harness.jobs.run import render
from harness.metrics.loading import load_metrics
from harness.metrics.registry import MetricOptions
from harness.progress import Progress, SilentProgress
from harness.sets import naming, shown_on
from harness.store.config_changes import ConfigChange, config_changes
from harness.store.folder import RunFolder
from harness.store.provenance import now, provenance
from harness.store.schema import RunManifest
from harness.yamlfile import apply_overrides, validate


def score(
    replies: Sequence[str],
    out: Path | None,
    *,
    run: Path | None = None,
    reference: str | None = None,
    overrides: Iterable[str] = (),
    progress: Progress | None = None,
) -> RunFolder:
    """Score NAME=FILE replies into the run folder ``out``, or rescore the saved run ``run`` in place.

    Raises InputError, with nothing written, for unusable files.
    """
    progress = progress or SilentProgress()
    if bool(replies) == (run is not None):
        raise InputError("Give either --replies NAME=FILE (once per system) and --out DIR, or --run RUN.")
    if run is not None:
        for option, value in (("--out", out), ("--reference", reference)):
            if value is not None:
                raise InputError(f"{option} requires --replies: --run rescores a saved run in place. Omit {option}.")
        folder = RunFolder(run)
        for name, one in folder.further_sets().items():  # the run's own summary repeats theirs
            with naming(name):
                _rescore(one, list(overrides), shown_on(progress, name))
        _rescore(folder, list(overrides), progress)
        render(folder, progress)
        return folder
    if out is None:
        raise InputError("--out is missing: name the folder to write the scores to.")
    given = list(overrides)
    config = validate(ScoreConfig, apply_overrides({}, given), source="--set", overrides=given)
    load_metrics(config.metrics, config.metric_options)
    files = _files(replies)
    if reference is not None and reference not in files:
        raise InputError(f"--reference: no system is named '{reference}'.{did_you_mean(reference, files)}")
    for name in (name for pair in config.same_as.items() for name in pair):
        if name not in files:
            raise InputError(f"same_as: no system is named '{name}'.{did_you_mean(name, files)}")
    read = read_replies(files, config.columns)  # before the folder is created, so that a bad line leaves nothing behind
    folder = RunFolder(out)
    identity: dict[str, Any] = {
        "replies": {name: _digest(path) for name, path in files.items()},
        "reference": reference,
    }
    if config.columns is not None:
        identity["columns"] = config.columns.model_dump()
    if config.same_as:
        identity["same_as"] = config.same_as
    refuse_other(folder, digest_value(identity), lambda manifest: _changes(manifest, identity))
    with locked(folder):
        # The manifest comes first, so that after an interruption the same command recognises the folder.
        folder.write_manifest(_manifest(config, files, identity, reference or next(iter(files))))
        with failures_recorded(folder):
            read.write(folder)
            del read  # where each line of the files is, which a million of them make large
            compute(folder, config, progress)
    render(folder, progress)
    return folder


def _changes(manifest: RunManifest, identity: dict[str, Any]) -> tuple[ConfigChange, ...]:
    """Return what differs from the replies that the folder was made from. A run that was measured has another kind."""
    known = {
        key.removeprefix("source/"): digest for key, digest in manifest.digests.items() if key.startswith("source/")
    }
    before = {"kind": manifest.kind, "replies": known, "reference": manifest.reference_variant}
    before |= {key: manifest.config.get(key) or None for key in ("columns", "same_as")}
    reference = identity["reference"] or next(iter(identity["replies"]))
    return config_changes(before, {"kind": "score", **identity, "reference": reference})


def _rescore(folder: RunFolder, overrides: list[str], progress: Progress) -> None:
    """Score a finished run with other metrics or statistics, leaving its measurements unchanged."""
    manifest = folder.read_manifest()
    if manifest.state != "complete":
        raise InputError(f"{folder.root} is not a finished run. Finish it with the command that started it.")
    if getattr(manifest, "redacted", False):
        raise InputError(f"{folder.root} is redacted: it has no replies to score. Score the run that it was made from.")
    kept = {key: manifest.config[key] for key in ScoreConfig.model_fields if key in manifest.config}
    own = validate(MetricOptions, kept.get("metric_options"), source=f"{folder.manifest_path}: metric_options")
    changed = apply_overrides(kept, overrides)
    config = validate(ScoreConfig, changed, source=str(folder.manifest_path), overrides=overrides)
    if config.same_as != kept.get("same_as", {}):
        raise InputError("same_as requires --replies: a saved run keeps what it was scored with. Omit it.")
    _refuse_what_the_folder_names(own, config, {override.partition("=")[0].strip() for override in overrides})
    with locked(folder):
        refuse_edited(folder, progress)
        compute(folder, config, progress)


def _digest(path: Path) -> str:
    found = run_and_variant(path)
    return digest_file(found[0].replies_path(found[1]) if found else path)


def _refuse_what_the_folder_names(own: MetricOptions, config: ScoreConfig, given: set[str]) -> None:
    """Raise InputError unless the command line names the code and the encoder that the run's metrics come from.

    The folder may be someone else's, so nothing that only it names is executed or loaded. A list of modules that leaves
    out one of the run's would silently drop its metrics. Modules of this project need no naming.
    """
    key = "metric_options.modules"
    asked = config.metric_options.modules if given & {key, "metric_options"} else ()
    names = {Path(name).name for name in asked}
    missing = [name for name in own.modules if Path(name).name not in names and (asked or not _is_shipped(name))]
    if missing and not (key in given and not asked):
        every = json.dumps([*own.modules, *(name for name in asked if name not in own.modules)])
        raise InputError(
            f"The run's metrics come from {', '.join(missing)}, which is executed only if the command line names it. "
            f"If you trust it, add --set {key}='{every}'; to score without it, --set {key}=[]."
        )
    if own.encoder and not given & {"metric_options.encoder", "metric_options"}:
        raise InputError(
            f"The run's metrics use the encoder {own.encoder}, which is loaded only if the command line names it. "
            "Add --set metric_options.encoder=PATH, or =null to score without it."
        )


def _is_shipped(module: str) -> bool:
    return module.startswith("harness.configs.") and not module.endswith(".py")


def _files(replies: Sequence[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for entry in replies:
        name, separator, path = entry.partition("=")
        if not separator or not name or not path:
            raise InputError(f"--replies {entry}: write it as NAME=FILE.jsonl or NAME=RUN:VARIANT.")
        if name in files:
            raise InputError(f"--replies: the name '{name}' is given twice.")
        files[name] = Path(path)
    return files


def _manifest(config: ScoreConfig, files: dict[str, Path], identity: dict[str, Any], reference: str) -> RunManifest:
    return RunManifest(
        state="running",
        kind="score",
        config={**config.model_dump(mode="json"), "replies": {name: path.name for name, path in files.items()}},
        config_digest=digest_value(identity),
        digests={f"source/{name}": digest for name, digest in identity["replies"].items()},
        variants=tuple(
            {"name": name, "kind": "replies", **({"same_as": config.same_as[name]} if name in config.same_as else {})}
            for name in files
        ),
        reference_variant=reference,
        provenance=provenance(config.seed),
        started=now(),
    )
