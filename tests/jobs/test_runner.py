"""A run folder is continued, left alone or refused as it should be, whatever an earlier run left there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import RunConfig, StatsConfig
from harness.errors import InputError
from harness.jobs.guard import check_belongs
from harness.jobs.measuring import Notes
from harness.jobs.prepare import refuse_unknown_slices
from harness.passes.keys import config_digest
from harness.progress import EventKind, SilentProgress
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, RunManifest
from harness.variants.model import Variant

CONFIG = RunConfig(variants=(Variant(name="base", kind="base", model="m"),), device="cpu")


def test_a_run_killed_while_it_wrote_its_first_manifest_is_continued(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.a1b2c3").write_text('{"half": ')
    check_belongs(RunFolder(tmp_path), CONFIG)


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="not a run folder"):
        check_belongs(RunFolder(tmp_path / "out"), CONFIG)


def test_a_halved_batch_is_on_disk_at_once_and_noted_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    manifest = RunManifest(schema=1, state="running", config={}, config_digest="")
    halved = {"pass": "generation", "variant": "base", "rows": 8, "rows_now": 4}
    Notes(folder, manifest, []).event(EventKind.OUT_OF_MEMORY, halved)
    earlier = list(folder.read_manifest().events)
    assert earlier == [{"kind": "out-of-memory", **halved}]
    Notes(folder, manifest, earlier).event(EventKind.OUT_OF_MEMORY, halved)
    assert list(folder.read_manifest().events) == earlier


class Said(SilentProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message: str) -> None:
        self.messages.append(message)


def test_weights_of_its_own_are_told_in_the_terminal_once_as_well_as_recorded(tmp_path: Path) -> None:
    progress = Said()
    manifest = RunManifest(schema=1, state="running", config={}, config_digest="")
    notes = Notes(RunFolder(tmp_path), manifest, [], progress)
    for _ in range(2):
        notes.event(EventKind.OWN_WEIGHTS, {"variant": "pissa", "detail": "attaching it changes the base itself"})
    assert progress.messages == ["'pissa' has weights of its own: attaching it changes the base itself."]
    assert notes.folder.read_manifest().events[0]["kind"] == "own-weights"


def test_a_slice_by_a_column_that_nobody_has_is_refused_with_the_nearest() -> None:
    rows = (DialogueRow(id="1", prompt="p", columns={"condition": "asthma"}),)
    refuse_unknown_slices(CONFIG.model_copy(update={"stats": StatsConfig(slices=("condition", "length_bucket"))}), rows)
    with pytest.raises(InputError, match=r"column 'conditon'\. Did you mean 'condition'"):
        refuse_unknown_slices(CONFIG.model_copy(update={"stats": StatsConfig(slices=("conditon",))}), rows)


def begun(root: Path, config: RunConfig) -> RunFolder:
    """Write what a run of this config begins with."""
    folder = RunFolder(root)
    recorded, digest = config.model_dump(mode="json"), config_digest(config)
    folder.write_manifest(RunManifest(schema=1, state="running", config=recorded, config_digest=digest))
    return folder


def test_a_folder_of_another_config_is_refused_with_what_changed(tmp_path: Path) -> None:
    folder = begun(tmp_path, CONFIG)
    changed = CONFIG.model_copy(
        update={
            "seed": 7,
            "generation": CONFIG.generation.model_copy(update={"max_new_tokens": 64}),
            "variants": (CONFIG.variants[0].model_copy(update={"quantization": "nf4"}),),  # type: ignore[union-attr]
            "metrics": ("rouge",),  # computed afterwards, so it needs no new folder
        }
    )
    with pytest.raises(InputError) as refused:
        check_belongs(folder, changed)
    assert str(refused.value) == (
        f"{tmp_path} belongs to a run with another config (variants.base.quantization: none → nf4; "
        "generation.max_new_tokens: 256 → 64; seed: 42 → 7). Choose another --out, or delete the folder."
    )


def test_settings_that_the_digest_leaves_out_are_not_named(tmp_path: Path) -> None:
    folder = begun(tmp_path, CONFIG)
    check_belongs(folder, CONFIG.model_copy(update={"metrics": ("rouge",)}))
    with pytest.raises(InputError, match=r"another config \(seed: 42 → 7\)\."):
        check_belongs(folder, CONFIG.model_copy(update={"metrics": ("rouge",), "seed": 7}))


def test_the_changed_keys_of_a_config_of_another_version_are_named(tmp_path: Path) -> None:
    folder = begun(tmp_path, CONFIG)
    manifest = folder.read_manifest()
    folder.write_manifest(manifest.model_copy(update={"config": {**manifest.config, "of_a_later_version": 1}}))
    with pytest.raises(InputError, match=r"\(seed: 42 → 7; of_a_later_version: 1 → not set\)"):
        check_belongs(folder, CONFIG.model_copy(update={"seed": 7}))


def test_a_folder_of_scored_replies_is_no_run_s(tmp_path: Path) -> None:
    folder = begun(tmp_path, CONFIG)
    folder.write_manifest(folder.read_manifest().model_copy(update={"kind": "score", "config_digest": "other"}))
    with pytest.raises(InputError, match=r"\(kind: score → run\)"):
        check_belongs(folder, CONFIG)
