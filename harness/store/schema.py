"""The run folder: the schema of its files.

::

    run.json                    config, digests of inputs, provenance, sanity checks, state
    dialogues.jsonl             DialogueRow, in run order
    records/PASS/VARIANT.jsonl  append-only, one line per finished dialogue or request (see also ``shards``)
    replies/VARIANT.jsonl       ReplyRow, joined from the records, replaced atomically
    summary.json                Summary
    memory.json  report.html  gate.json  gate.junit.xml  gate.md

No torch here: everything downstream of the records runs without it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from harness.errors import InputError
from harness.files import Row


class VersionedRow(Row):
    """A whole file, which states its schema. Readers of one schema refuse a file of a later one."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_newer(cls, value: Any) -> Any:
        newest = max(get_args(cls.model_fields["schema_version"].annotation))
        schema = value.get("schema") if isinstance(value, dict) else None
        if isinstance(schema, int) and schema > newest:
            raise InputError(
                f"has schema {schema}, and this version reads schemas up to {newest}. "
                "A newer version wrote it: upgrade medical-dialogue-harness."
            )
        return value


class ChatText(Row):
    """How a chat template joins prompt and reference; both null for a dialogue without a reference.

    ``context`` is all that the template writes before the reference, which may be more than the prompt. ``messages`` is
    the conversation itself, kept if a variant of the run is served: its server may take nothing else.
    """

    context: str | None = None
    reference: str | None = None
    messages: tuple[dict[str, str], ...] = ()


class DialogueRow(Row):
    """One held-out dialogue as given to every variant. ``columns`` are the data's other columns.

    ``chat`` is present if a chat template wrote the prompt; the tokenizer then adds no special tokens.
    """

    id: str
    prompt: str
    reference: str | None = None
    further_references: tuple[str, ...] = ()
    columns: dict[str, Any] = Field(default_factory=dict)
    conversation: str | None = None
    chat: ChatText | None = None


class FindingRow(Row):
    """A rule that fired on a reply, and the words it fired on."""

    metric: str
    rule: str
    words: tuple[str, ...] = ()


class ReplyRow(Row):
    """Everything known about one variant's reply to one dialogue. ``nll`` is summed over the reference, in nats.

    ``reply`` is what a patient would see, and what is judged; ``raw`` is the model's text where it is another one.
    ``unfinished``: the text ends inside a reasoning block.
    """

    id: str
    prompt_tokens: int | None = None
    reply: str | None = None
    raw: str | None = None
    unfinished: bool = False
    reply_tokens: int | None = None
    finish: Literal["eos", "stop", "length"] | None = None
    nll: float | None = None
    reference_tokens: int | None = None
    scores: dict[str, float | None] = Field(default_factory=dict)
    statistics: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    findings: tuple[FindingRow, ...] = ()
    undefined: dict[str, str] = Field(default_factory=dict)  # why a metric cannot read this reply, by its name
    error: str | None = None


class Record(Row):
    """The base of every record. ``key`` is a digest of everything the result depends on.

    Each subclass names the pass that writes it (``records/PASS``) and the fields that redaction replaces: ``texts``
    contain text, ``token_ids`` its tokens.
    """

    measured_by: ClassVar[str] = ""
    texts: ClassVar[tuple[str, ...]] = ()
    token_ids: ClassVar[tuple[str, ...]] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What no two records of a variant have in common."""
        return (self.id, self.key)

    id: str
    key: str
    error: str | None = None
    skipped: str | None = None  # why the dialogue was not given to the variant, e.g. "too long"


class ScoringRecord(Record):
    """Teacher-forced likelihood of the reference: summed nats over ``reference_tokens`` tokens."""

    measured_by = "scoring"

    nll: float | None = None
    reference_tokens: int | None = None
    prompt_tokens: int | None = None


class GenerationRecord(Record):
    """A reply with its token ids (without the one that ended it).

    ``marked`` is the same text with its special tokens, if it has any: some models mark their reasoning with them.
    """

    measured_by = "generation"
    texts = ("reply", "marked")
    token_ids = ("tokens",)

    reply: str | None = None
    marked: str | None = None
    tokens: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    reply_tokens: int | None = None
    finish: Literal["eos", "stop", "length"] | None = None


class FidelityRecord(Record):
    """``VARIANT`` (from the file name) compared with ``against`` on one reference, token by token.

    ``kl`` is KL(against ‖ variant) in nats at each reference position; ``agree`` counts equal argmax positions.

    Of a served variant, the replies are compared: ``identical``, or the first ``parts_at`` tokens are the same. There,
    ``margin`` is by how much ``against`` prefers its best token to its second best, and ``behind`` by how much it
    prefers its best to the one that the server chose, both in nats; null if not known.
    """

    measured_by = "fidelity"

    @property
    def identity(self) -> tuple[str, ...]:
        return (self.id, self.key, self.against)

    against: str = ""  # empty if the variant could not be compared
    kl: tuple[float, ...] = ()
    agree: int | None = None
    max_abs_dlogp: float | None = None
    nll: float | None = None
    nll_against: float | None = None
    reference_tokens: int | None = None
    identical: bool | None = None
    parts_at: int | None = None
    margin: float | None = None
    behind: float | None = None


class LatencyRecord(Record):
    """One timed request. ``stamps_ns[i]`` is when output token i reached the host; all on one monotonic clock.

    ``id`` is the dialogue's at batch 1. A batch decoded in lockstep is one record, whose ``id`` names the batch and
    whose stamps are when the tokens of all rows had reached the host: ``batch`` tokens per stamp. ``workload``: "fixed"
    (min = max reply length, batch 1), "natural" (the model ends the reply), "sweep" (fixed, in batches) or "prefill"
    (prompts of a set length, one token).

    At a server, every request is a record. ``batch`` is how many were under way at once; above 1, ``id`` names those
    that were sent one after another, and they have it in common.
    """

    measured_by = "latency"

    workload: Literal["fixed", "natural", "sweep", "prefill"] = "fixed"
    engine: Literal["eager", "compiled", "server"] = "eager"
    batch: int = 1
    repeat: int = 0
    order: int = 0  # position in the whole sequence of requests, for drift
    prompt_tokens: int = 0
    submitted_ns: int = 0
    stamps_ns: tuple[int, ...] = ()
    launched_ns: int | None = None  # on CUDA: when the host had launched the first token's forward
    setup_seconds: float = 0.0  # before it was submitted: the capture of graphs that its shape needs


class MemoryRecord(Record):
    """One new process that loaded a variant and ran the fixed workload; ``id`` is ``repeat-N``. Sizes in MiB."""

    measured_by = "memory"

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


# All kinds of records, in the order of a run's passes.
RECORDS: tuple[type[Record], ...] = (ScoringRecord, GenerationRecord, FidelityRecord, LatencyRecord, MemoryRecord)


def pass_names() -> tuple[str, ...]:
    """Return the name of every pass, in order."""
    return tuple(record.measured_by for record in RECORDS)


def record_of(pass_name: str) -> type[Record] | None:
    """Return the kind of record that a pass writes; None for an unknown pass."""
    return next((record for record in RECORDS if record.measured_by == pass_name), None)


class EstimateRow(Row):
    """A value with its two-sided 95 % interval; ``low``/``high`` are null if no valid interval exists."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    method: str = ""
    warnings: tuple[str, ...] = ()


class MetricSummary(Row):
    """One metric over all variants. ``conditions``: when the numbers apply, e.g. {"batch": 1}."""

    unit: str
    higher_is_better: bool | None
    signature: str
    conditions: dict[str, Any] = Field(default_factory=dict)
    variants: dict[str, EstimateRow] = Field(default_factory=dict)
    label: str = ""
    heuristic: bool = False


class ComparisonRow(Row):
    """Variant minus ``against`` (``relative``: their ratio) over the dialogues that both have."""

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

    ``unfinished`` of the answers end inside a reasoning block, so that a patient sees little or nothing of them.

    ``value`` is the share answered, with the ends of its 95 % interval (Clopper–Pearson); None without dialogues.
    ``not_measured`` says, by pass, why a pass that was asked for measured nothing of the variant.
    """

    dialogues: int
    answered: int
    skipped: dict[str, int] = Field(default_factory=dict)
    not_scored: dict[str, int] = Field(default_factory=dict)  # answered, but without a likelihood of the reference
    unfinished: int = 0
    value: float | None = None
    low: float | None = None
    high: float | None = None
    not_measured: dict[str, str] = Field(default_factory=dict)


class LikenessRow(Row):
    """How alike a variant is to another one, over the ``replies`` of dialogues that both replied to.

    ``shared`` is the mean share of a reply's tokens before the first difference. ``nll_difference`` is in nats a token
    of the references; null if one of them has no likelihoods.
    """

    replies: int
    identical: int
    shared: float
    nll_difference: float | None = None


class IdentityRow(Row):
    """What the replies say about a variant that claims to be another one of the run.

    Of the replies that differ from those of ``claimed``, the first differing token is one that it is ``sure`` of, a
    near-tie, or it is ``unknown`` which. ``nearer`` names a variant that is more alike, if there is one.
    """

    variant: str
    claimed: str
    finding: Literal["same", "near-ties", "unknown", "other"]
    replies: int
    sure: int
    near_ties: int
    unknown: int
    nearer: str | None = None
    likenesses: dict[str, LikenessRow] = Field(default_factory=dict)


class SeedsRow(Row):
    """The mean difference of a recipe's adapters to the reference variant, over dialogues and training seeds.

    ``low`` and ``high`` hold for other dialogues and other seeds. ``spread`` is the standard deviation between the
    differences of the ``seeds`` adapters. ``outcome`` speaks of the recipe, ``outcome_of_these`` of the mean of these
    adapters, over other dialogues alone.
    """

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    seeds: int
    spread: float | None = None
    outcome: Literal["better", "worse", "undecided", "equal", "different"]
    outcome_of_these: Literal["better", "worse", "undecided", "equal", "different"]
    method: str = ""
    warnings: tuple[str, ...] = ()


class RecipeRow(Row):
    """Adapters of one recipe that differ in the training seed alone. ``seeds`` maps each variant to its seed."""

    recipe_digest: str
    against: str
    seeds: dict[str, int]
    comparisons: tuple[SeedsRow, ...] = ()


class Summary(VersionedRow):
    """``summary.json``: every number of the run, for the report, the gate and users' scripts."""

    schema_version: Literal[1] = Field(1, alias="schema")
    metrics: dict[str, MetricSummary] = Field(default_factory=dict)
    comparisons: tuple[ComparisonRow, ...] = ()
    coverage: dict[str, Coverage] = Field(default_factory=dict)
    slices: tuple[SliceRow, ...] = ()
    identities: tuple[IdentityRow, ...] = ()
    recipes: tuple[RecipeRow, ...] = Field((), exclude_if=lambda rows: not rows)


class SanityCheck(Row):
    """One check made before the long passes."""

    name: str
    variant: str | None = None
    ok: bool
    detail: str = ""


class RunManifest(VersionedRow):
    """``run.json``: the run's configuration, inputs, environment and state."""

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
    template_date: str | None = None  # the date that a chat template was given instead of today's, if it asks for one
    held_out: dict[str, Any] = Field(default_factory=dict)  # counts: loaded, split, dropped by leakage, invalid
    provenance: dict[str, Any] = Field(default_factory=dict)  # versions, hardware, git commit, seeds
    sanity: tuple[SanityCheck, ...] = ()
    warnings: tuple[str, ...] = ()
    events: tuple[dict[str, Any], ...] = ()  # e.g. batches halved after running out of memory
    training: dict[str, Any] = Field(default_factory=dict)  # recipe, and curves if finetune recorded them
    started: str = ""
    finished: str | None = None
    error: str | None = None

    def reference_among(self, names: Collection[str]) -> str | None:
        """Return the variant that others are compared with: the run's choice, else the first base, else the first."""
        bases = [str(one.get("name")) for one in self.variants if one.get("kind") == "base"]
        return next((name for name in (self.reference_variant, *bases, *names) if name in names), None)
