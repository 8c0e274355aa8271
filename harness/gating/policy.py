"""The thresholds file: what a candidate must meet, validated, with the line number of every key.

The file never states a direction: whether larger is better is a property of the metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from harness.errors import InputError, did_you_mean
from harness.files import digest_file
from harness.yamlfile import Location, Strict, read_yaml, validate

SHIPPED = Path(__file__).parent / "thresholds"
Rule = Literal["min", "max", "non_inferiority", "no_regression", "equivalence"]
RULES: tuple[Rule, ...] = ("min", "max", "non_inferiority", "no_regression", "equivalence")

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]


def _as_text(value: object) -> object:
    """Return the text of a name that YAML parsed as a number (``12``) or a boolean (``yes``)."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Name = Annotated[str, BeforeValidator(_as_text), StringConstraints(min_length=1, max_length=200)]
BaselineName = Annotated[
    str, BeforeValidator(_as_text), StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
]


class _OneOf(Strict):
    """A rule with exactly one of its numbers given."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for _, value in self) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self


class NonInferiority(_OneOf):
    """Passes only if the candidate is proven to be worse by at most the margin."""

    margin: NotNegative | None = Field(None, description="in the metric's own unit")
    margin_relative: NotNegative | None = Field(None, description="as a share of the other value: 0.05 is 5 %")


class NoRegression(_OneOf):
    """Fails only if a loss beyond the limit is proven."""

    max_drop: NotNegative | None = Field(None, description="largest loss allowed, in the metric's own unit")
    max_relative_increase: NotNegative | None = Field(
        None, description="largest loss allowed, as a share of the other value: 0.1 lets a latency rise by 10 %"
    )


class Equivalence(_OneOf):
    """Passes only if the candidate is proven to differ by no more than the margin in either direction."""

    margin: Positive | None = Field(None, description="in the metric's own unit")
    margin_relative: Positive | None = Field(None, description="as a share of the other value")


class Against(Strict):
    """What the candidate is compared with: another variant of the run, or a variant of an accepted baseline."""

    variant: Name | None = Field(None, description="with a baseline and absent: the candidate's own name")
    baseline: BaselineName | None = None

    @model_validator(mode="after")
    def _something(self) -> Against:
        if self.variant is None and self.baseline is None:
            raise ValueError("give 'variant', 'baseline' or both")
        return self


class Check(Strict):
    """One check of the policy: one metric, one rule."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [rule]} for rule in RULES]})

    id: Name = Field(description="unique; appears in every output")
    metric: Name = Field(description="as in summary.json, e.g. quality.rouge_l")
    candidate: Name | None = Field(None, description="the variant judged by this check; default: the file's candidate")
    set: Name | None = Field(None, description="one of the run's held-out sets; default: the first")
    min: Number | None = Field(None, description="the value (with 'against': the difference) must be at least this")
    max: Number | None = Field(None, description="the value (with 'against': the difference) must be at most this")
    non_inferiority: NonInferiority | None = None
    no_regression: NoRegression | None = None
    equivalence: Equivalence | None = None
    against: Against | None = None
    slice: Annotated[dict[Name, Name], Field(min_length=1, max_length=1)] | None = Field(
        None, description="one column of the data and its value: {condition: asthma}"
    )
    min_samples: Count | None = None
    severity: Literal["fail", "warn"] = Field("fail", description="warn: shown, but decides nothing unless in error")
    judge: Literal["bound", "point"] = Field("bound", description="point: the value alone, its uncertainty ignored")
    must_pass: tuple[Name, ...] = Field((), description="dialogues that must each meet the limit by themselves")

    @model_validator(mode="after")
    def _one_rule(self) -> Check:
        if sum(getattr(self, rule) is not None for rule in RULES) != 1:
            raise ValueError(f"give exactly one of {', '.join(RULES)}")
        return self

    @property
    def rule(self) -> Rule:
        """Which of the five rules this check applies."""
        return next(rule for rule in RULES if getattr(self, rule) is not None)

    @property
    def compares(self) -> bool:
        """Whether two values are compared, rather than one with a limit."""
        return self.against is not None or self.rule not in ("min", "max")

    @property
    def needs_baseline(self) -> bool:
        """Whether it compares with an accepted run: one that it names, or the one of ``--baseline``."""
        return self.compares and (self.against is None or self.against.baseline is not None)

    @property
    def margin(self) -> float:
        """The rule's number, absolute or relative."""
        return self._stated[1]

    @property
    def is_relative(self) -> bool:
        """Whether the number is a share of the other value."""
        return "relative" in self._stated[0]

    @property
    def _stated(self) -> tuple[str, float]:
        rule = getattr(self, self.rule)
        numbers = [(key, value) for key, value in rule if value is not None] if isinstance(rule, _OneOf) else []
        return numbers[0] if numbers else (self.rule, float(rule))


class Defaults(Strict):
    """Defaults that a check can override, and settings of the whole file."""

    confidence: Annotated[float, Field(strict=True, gt=0.5, lt=1)] = Field(0.95, description="two-sided")
    min_samples: Count = Field(100, description="fewer units are inconclusive; does not apply to memory")
    min_coverage: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        0.99, description="smallest share of the dialogues that a variant must have answered"
    )
    on_inconclusive: Literal["fail", "pass"] = Field("fail", description="fail: exit code 3; pass: 0 with a warning")


class Policy(Strict):
    """A thresholds file."""

    model_config = ConfigDict(title="Thresholds of the medical-dialogue harness's gate")

    version: Literal[1]
    candidate: Name | None = Field(None, description="the variant to be judged; --candidate replaces it")
    defaults: Defaults = Defaults()
    checks: tuple[Check, ...] | None = Field((), description="none at all is an error, never a pass")

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Policy:
        ids = [check.id for check in self.checks or ()]
        doubled = sorted({name for name in ids if ids.count(name) > 1})
        if doubled:
            raise ValueError(f"checks: the id '{doubled[0]}' is used twice")
        return self


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy and its source file. ``digest`` is the SHA-256 of the file's bytes."""

    policy: Policy
    source: str
    digest: str
    lines: dict[Location, int]

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        return self.policy.checks or ()

    def where(self, *location: str | int) -> str:
        """Return ``FILE, line N`` of the closest enclosing key that is in the file."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.lines:
                return f"{self.source}, line {self.lines[location[:end]]}"
        return self.source


def thresholds_file(name_or_path: str | Path) -> Path | None:
    """Return the file at a path, else the shipped one of that name, else None."""
    shipped = {file.stem: file for file in SHIPPED.glob("*.yaml")}
    path = Path(name_or_path)
    return path if path.is_file() else shipped.get(str(name_or_path).removesuffix(".yaml"))  # as gate.json names it


def load_policy(name_or_path: str | Path) -> LoadedPolicy:
    """Read a thresholds file; ``name_or_path`` is a path or the name of a shipped one (``adapter-release``).

    Raises InputError naming file, line and the closest known key.
    """
    path = thresholds_file(name_or_path)
    if path is None:
        shipped = [file.stem for file in sorted(SHIPPED.glob("*.yaml"))]
        raise InputError(
            f"There is no thresholds file {name_or_path}; the shipped ones are {', '.join(shipped)}."
            f"{did_you_mean(str(name_or_path), shipped)}"
        )
    value, lines = read_yaml(path)
    _refuse_newer(value, path, lines)
    policy = validate(Policy, value, source=str(path), lines=lines)
    return LoadedPolicy(policy, str(path), digest_file(path), lines)


def _refuse_newer(value: object, path: Path, lines: dict[Location, int]) -> None:
    """Raise InputError for a file of a later version, before its unknown keys are taken for spelling mistakes."""
    newest = max(get_args(Policy.model_fields["version"].annotation))
    version = value.get("version") if isinstance(value, dict) else None
    if isinstance(version, int) and version > newest:
        raise InputError(
            f"{path}, line {lines[('version',)]}: version {version} of thresholds files is newer than this harness, "
            f"which reads versions up to {newest}. Upgrade medical-dialogue-harness."
        )
