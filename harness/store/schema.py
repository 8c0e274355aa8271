"""The run folder: its files' schema, and how they are written so that a kill loses at most the dialogue in hand.

::

    run.json                    config, digests of inputs, provenance, sanity checks, state
    dialogues.jsonl             DialogueRow, in run order
    records/PASS/VARIANT.jsonl  append-only, one line a finished dialogue or request
    replies/VARIANT.jsonl       ReplyRow, joined from the records, replaced atomically
    summary.json                Summary
    memory.json  report.html  gate.json  gate.junit.xml  gate.md

No torch here: everything downstream of the records runs on a machine without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError, InputError

SCHEMA = 1


class Row(BaseModel):
    """A line of a JSONL file. Keys unknown to this version are kept, so that newer folders stay readable."""

    model_config = ConfigDict(extra="allow", frozen=True)


class DialogueRow(Row):
    """One held-out dialogue as it was put to every variant. ``columns`` are the data's further columns."""

    id: str
    prompt: str
    reference: str | None = None
    columns: dict[str, Any] = Field(default_factory=dict)
    conversation: str | None = None


class FindingRow(Row):
    """A rule that fired on a reply, and the words it fired on."""

    metric: str
    rule: str
    words: tuple[str, ...] = ()


class ReplyRow(Row):
    """Everything known of one variant's reply to one dialogue. ``nll`` is summed over the reference, in nats."""

    id: str
    prompt_tokens: int | None = None
    reply: str | None = None
    reply_tokens: int | None = None
    finish: Literal["eos", "stop", "length"] | None = None
    nll: float | None = None
    reference_tokens: int | None = None
    scores: dict[str, float | None] = Field(default_factory=dict)
    statistics: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    findings: tuple[FindingRow, ...] = ()
    error: str | None = None


class Record(Row):
    """The head of every record. ``key`` digests all that the result depends on; another key, another result."""

    id: str
    key: str
    error: str | None = None
    skipped: str | None = None  # why the dialogue could not be put to the variant, e.g. "too long"


class ScoringRecord(Record):
    """Teacher-forced likelihood of the reference: summed nats over ``reference_tokens`` tokens."""

    nll: float | None = None
    reference_tokens: int | None = None
    prompt_tokens: int | None = None


class GenerationRecord(Record):
    """A reply with its token ids (without the one that ended it)."""

    reply: str | None = None
    tokens: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    finish: Literal["eos", "stop", "length"] | None = None


class FidelityRecord(Record):
    """``VARIANT`` (the file's) held against ``against`` on one reference, token by token.

    ``kl`` is KL(against ‖ variant) in nats at each reference position; ``agree`` counts equal argmax positions.
    """

    against: str
    kl: tuple[float, ...] = ()
    agree: int | None = None
    max_abs_dlogp: float | None = None
    nll: float | None = None
    nll_against: float | None = None
    reference_tokens: int | None = None


class LatencyRecord(Record):
    """One timed request. ``stamps_ns[i]`` is when output token i was on the host; all on one monotonic clock.

    ``id`` is the dialogue's at batch 1. A batch in step is one record, whose ``id`` names the batch and whose stamps
    are when every row's token was on the host; it made ``batch`` tokens a stamp.
    ``workload``: "fixed" (min = max reply length, batch 1), "natural" (the reply ends where
    the model ends it), "sweep" (fixed, in batches) or "prefill" (prompts of a set length, one token).
    """

    workload: Literal["fixed", "natural", "sweep", "prefill"] = "fixed"
    engine: Literal["eager", "compiled"] = "eager"
    batch: int = 1
    repeat: int = 0
    order: int = 0  # position in the whole sequence of requests, for drift
    prompt_tokens: int = 0
    submitted_ns: int = 0
    stamps_ns: tuple[int, ...] = ()


class MemoryRecord(Record):
    """One fresh process that loaded a variant and ran the fixed workload; ``id`` is ``repeat-N``. Sizes in MiB."""

    device: str = "cpu"
    weights_mib: float | None = None
    kv_cache_mib: float | None = None
    activations_mib: float | None = None
    peak_allocated_mib: float | None = None
    peak_reserved_mib: float | None = None
    peak_rss_mib: float | None = None
    nvml_used_mib: float | None = None
    disk_mib: float | None = None
    load_seconds: float | None = None


class EstimateRow(Row):
    """A value with its two-sided 95 % interval; ``low``/``high`` are null where no honest interval exists."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    method: str = ""
    warnings: tuple[str, ...] = ()


class MetricSummary(Row):
    """One metric over all variants. ``conditions``: what the numbers hold under, e.g. {"batch": 1}."""

    unit: str
    higher_is_better: bool | None
    signature: str
    conditions: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, EstimateRow] = Field(default_factory=dict)
    label: str = ""
    heuristic: bool = False


class ComparisonRow(Row):
    """Variant minus ``against`` (``relative``: their ratio) over the dialogues both have."""

    metric: str
    variant: str
    against: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    mde: float | None = None
    outcome: Literal["better", "worse", "undecided", "equal", "different"]
    needed_n: int | None = None
    p_value: float | None = None
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    relative: bool = False
    method: str = ""
    warnings: tuple[str, ...] = ()


class SliceRow(Row):
    """A comparison within one value of one column; ``q_value`` is Benjamini–Hochberg's over all slices shown."""

    column: str
    level: str
    comparison: ComparisonRow
    q_value: float | None = None


class Coverage(Row):
    """How many of the held-out dialogues a variant answered, and why it missed the rest.

    ``value`` is the share answered, with the ends of its 95 % interval (Clopper–Pearson); None without dialogues.
    """

    dialogues: int
    answered: int
    skipped: dict[str, int] = Field(default_factory=dict)
    value: float | None = None
    low: float | None = None
    high: float | None = None


class Summary(Row):
    """``summary.json``: every number of the run, ready for page, gate and people's own scripts."""

    schema_version: Literal[1] = Field(1, alias="schema")
    metrics: dict[str, MetricSummary] = Field(default_factory=dict)
    comparisons: tuple[ComparisonRow, ...] = ()
    coverage: dict[str, Coverage] = Field(default_factory=dict)
    slices: tuple[SliceRow, ...] = ()


class SanityCheck(Row):
    """One check made before the long passes."""

    name: str
    variant: str | None = None
    ok: bool
    detail: str = ""


class RunManifest(Row):
    """``run.json``: what was run, on what, with what, and how far it came."""

    schema_version: Literal[1] = Field(1, alias="schema")
    state: Literal["running", "complete", "failed"]
    kind: Literal["run", "score"] = "run"
    config: dict[str, Any]
    config_digest: str
    digests: dict[str, str] = Field(default_factory=dict)  # of every input, and of each replies file once complete
    variants: tuple[dict[str, Any], ...] = ()
    reference_variant: str | None = None
    template: str | None = None
    template_digest: str | None = None
    held_out: dict[str, Any] = Field(default_factory=dict)  # counts: loaded, split, dropped by leakage, invalid
    provenance: dict[str, Any] = Field(default_factory=dict)  # versions, hardware, git commit, seeds
    sanity: tuple[SanityCheck, ...] = ()
    warnings: tuple[str, ...] = ()
    events: tuple[dict[str, Any], ...] = ()  # e.g. batches halved after running out of memory
    training: dict[str, Any] = Field(default_factory=dict)  # recipe, and curves where finetune left them
    started: str = ""
    finished: str | None = None
    error: str | None = None


AnyRow = TypeVar("AnyRow", bound=Row)


class RunFolder:
    """Paths of a run folder and typed access to its files."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @property
    def manifest_path(self) -> Path:
        return self.root / "run.json"

    @property
    def dialogues_path(self) -> Path:
        return self.root / "dialogues.jsonl"

    @property
    def summary_path(self) -> Path:
        return self.root / "summary.json"

    @property
    def memory_path(self) -> Path:
        return self.root / "memory.json"

    @property
    def report_path(self) -> Path:
        return self.root / "report.html"

    def records_path(self, pass_name: str, variant: str) -> Path:
        return self.root / "records" / pass_name / f"{variant}.jsonl"

    def replies_path(self, variant: str) -> Path:
        return self.root / "replies" / f"{variant}.jsonl"

    def read_manifest(self) -> RunManifest:
        """Return ``run.json``; raise InputError where the folder is not a run's."""
        if not self.manifest_path.is_file():
            raise InputError(f"{self.root} is not a run folder: it has no run.json.")
        return _read_model(RunManifest, self.manifest_path)

    def write_manifest(self, manifest: RunManifest) -> None:
        write_model(self.manifest_path, manifest)

    def read_summary(self) -> Summary:
        """Return ``summary.json``; raise InputError where the run has none."""
        if not self.summary_path.is_file():
            raise InputError(f"{self.root} has no summary.json: the run is not finished. Run the same command again.")
        return _read_model(Summary, self.summary_path)

    def dialogues(self) -> list[DialogueRow]:
        return list(read_rows(DialogueRow, self.dialogues_path))

    def replies(self, variant: str) -> list[ReplyRow]:
        """Return a variant's joined replies in run order (empty where nothing was recorded)."""
        path = self.replies_path(variant)
        return list(read_rows(ReplyRow, path)) if os.path.exists(path) else []  # noqa: PTH110

    def records(self, model: type[AnyRow], pass_name: str, variant: str) -> list[AnyRow]:
        """Return the finished records of a pass (empty where it has none); a half-written last line is passed over."""
        path = self.records_path(pass_name, variant)  # a name from run.json may be too long for a file
        return list(read_rows(model, path, torn_tail="ignore")) if os.path.exists(path) else []  # noqa: PTH110


def read_rows(model: type[AnyRow], path: Path, *, torn_tail: Literal["error", "ignore"] = "error") -> Iterator[AnyRow]:
    """Yield the rows of a JSONL file.

    Raises InputError naming file and line for a line that is not the model. With ``torn_tail="ignore"`` a last line
    without its newline (a writer was killed in the middle of it) is passed over.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if torn_tail == "ignore" and not line.endswith(b"\n"):
                    return
                if not line.strip():
                    continue
                try:
                    yield model.model_validate(json.loads(line))
                except (ValidationError, ValueError, RecursionError) as error:
                    raise InputError(f"{path}, line {number}: not a {model.__name__} ({_short(error)}).") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def dump_row(row: BaseModel) -> str:
    """Return one JSON line (no newline), ASCII only so that lone surrogates survive the way to disk and back."""
    return json.dumps(row.model_dump(mode="python", by_alias=True), ensure_ascii=True, allow_nan=False, default=list)


class RecordWriter:
    """Appends records to a file; each is on disk before ``append`` returns, whatever happens next.

    A half-written last line, left by a writer that was killed, is cut off on opening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        repair_tail(path)
        self._file = path.open("ab")

    def append(self, rows: Iterable[BaseModel]) -> None:
        """Write the rows and flush them to the operating system; raise HarnessError when the disk takes no more."""
        data = "".join(dump_row(row) + "\n" for row in rows).encode("ascii")
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise HarnessError(
                f"Cannot write {self.path}: {error.strerror}. Make room and run the same command again; it continues."
            ) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What a full disk refused is tried again on closing; that error may not hide the one that says what to do.
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            self.close()


def repair_tail(path: Path) -> int:
    """Cut a last line that has no newline; return how many bytes were cut."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
        return size - end


def prune_records(path: Path, keys: set[str]) -> int:
    """Keep only the records with one of these keys; return how many were dropped."""
    if not path.exists():
        return 0
    repair_tail(path)
    rows = list(read_rows(Record, path))
    kept = [row for row in rows if row.key in keys]
    if len(kept) < len(rows):
        write_rows(path, kept)
    return len(rows) - len(kept)


def write_text_atomically(path: Path, text: str) -> None:
    """Replace ``path`` in one step: a reader sees the old text or the new one, and a full disk keeps the old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise HarnessError(f"Cannot write {path}: {error.strerror}. Nothing was changed.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_model(path: Path, model: BaseModel) -> None:
    """Write a model as indented JSON, atomically."""
    write_json(path, model.model_dump(mode="python", by_alias=True))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, indented, atomically."""
    write_text_atomically(path, json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False, default=list) + "\n")


def write_rows(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write a whole JSONL file, atomically."""
    write_text_atomically(path, "".join(dump_row(row) + "\n" for row in rows))


def _read_model(model: type[AnyRow], path: Path) -> AnyRow:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValidationError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged or of another version ({_short(error)}).") from error


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0][:120]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
