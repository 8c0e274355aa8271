"""Record keys: a digest of everything that a result depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.config import LatencyConfig, RunConfig
from harness.dialogues.model import ColumnMap, DialogueConfig
from harness.files import digest_value
from harness.passes.base import Conditions
from harness.passes.registry import all_passes
from harness.sets import OF_A_SET, read_recorded, set_configs
from harness.store.config_changes import ConfigChange, config_changes
from harness.store.schema import DialogueRow
from harness.variants.model import SERVED_KEYS, Variant

Key = Callable[[str, Variant, DialogueRow], str]


# Computed from the records afterwards, so it may change without a new measurement.
DERIVED = {"metrics", "metric_options", "stats", "reasoning", "price_per_gpu_hour", "currency"}
# Settings added after 0.1.0. At their defaults they are left out of the digest, so that folders of earlier configs can
# be continued.
ADDED: Mapping[type[BaseModel], frozenset[str]] = {
    RunConfig: frozenset({"chat_template", "placement", "sets"}),
    DialogueConfig: frozenset({"encoding", "hub_config", "references"}),
    ColumnMap: frozenset({"system", "history"}),
    LatencyConfig: frozenset({"budget_minutes", "precision", "concurrency"}),
    Variant: frozenset({*SERVED_KEYS, "recipe_digest", "seed"}),
}
# Only shown beside what is measured.
SHOWN: Mapping[type[BaseModel], frozenset[str]] = {LatencyConfig: frozenset({"imported"})}
# Defaults of 0.1.0 that have become null, which stands for them in the digest.
FORMER_DEFAULTS = {("dialogues", "hub_split"): "train", ("memory", "repeats"): 2}


def config_digest(config: RunConfig) -> str:
    """Return the digest that ties a run folder to the config it was measured with.

    That of a run over several sets covers what is measured on each, wherever the config states it.
    """
    if config.sets is None:
        return digest_value(_settings(config))
    return digest_value([[name, config_digest(one)] for name, one in set_configs(config).items()])


def changed_settings(recorded: Mapping[str, Any], config: RunConfig) -> tuple[ConfigChange, ...]:
    """Return what differs between the config in a ``run.json`` and this one, of all that the digest covers."""
    try:
        known = read_recorded(recorded)
        names, asked = (", ".join(one.sets) if one.sets else None for one in (known, config))
        if names != asked:  # what else differs is of other sets, or follows
            return config_changes({"sets": names}, {"sets": asked})
        return config_changes(_by_set(known), _by_set(config))
    except ValidationError:  # of another version
        before, now = ({**one, **dict.fromkeys(DERIVED)} for one in (recorded, config.model_dump(mode="json")))
        return config_changes(before, now)


def _by_set(config: RunConfig) -> dict[str, Any]:
    """Return the settings under the keys that a user knows, with those of each set under its name."""
    if config.sets is None:
        return _settings(config)
    ones = {name: _settings(one) for name, one in set_configs(config).items()}
    common = {key: value for key, value in next(iter(ones.values())).items() if key not in ("dialogues", *OF_A_SET)}
    own = ({**(one["dialogues"] or {}), **{key: one.get(key) for key in OF_A_SET}} for one in ones.values())
    return {**common, "sets": dict(zip(ones, own, strict=True))}


def _settings(config: RunConfig) -> dict[str, Any]:
    excluded = {**_unset(config), **dict.fromkeys(DERIVED, True)}
    settings = config.model_dump(mode="json", exclude=excluded)
    for (part, name), before in FORMER_DEFAULTS.items():
        if settings.get(part) and settings[part][name] is None:
            settings[part][name] = before
    return settings


def _unset(value: object) -> dict[Any, Any]:
    """Return which added settings have their defaults, as ``model_dump`` excludes them."""
    if isinstance(value, tuple):
        return {place: inner for place, one in enumerate(value) if (inner := _unset(one))}
    if not isinstance(value, BaseModel):
        return {}
    fields, added = type(value).model_fields, ADDED.get(type(value), frozenset())
    unset = {name for name in added if getattr(value, name) == fields[name].get_default(call_default_factory=True)}
    unset |= SHOWN.get(type(value), frozenset())
    nested = {name: _unset(getattr(value, name)) for name in fields if name not in unset}
    return {**{name: inner for name, inner in nested.items() if inner}, **dict.fromkeys(unset, True)}


def record_key(
    config: RunConfig,
    variants: tuple[Variant, ...],
    weights: Mapping[str, str],
    template_digest: str,
    machine: str,
    device: str,
) -> Key:
    """Return the function that computes the key of (pass, variant, dialogue).

    ``weights`` maps each variant's name to the digest of all files its results depend on. Timings and memory depend on
    the ``machine`` too; replies and likelihoods only on the kind of ``device``, the one in use and not ``auto``.
    """
    on = Conditions(config, variants, weights, machine)
    settings = {one.name: one.settings(on) for one in all_passes()}
    fixed = {
        (name, variant.name): digest_value(
            [
                name,
                weights[variant.name],
                variant.quantization,
                variant.dtype,
                template_digest,
                device.partition(":")[0],
                settings[name],
            ]
        )
        for name in settings
        for variant in variants
    }

    def key(pass_name: str, variant: Variant, dialogue: DialogueRow) -> str:
        text = [fixed[pass_name, variant.name], dialogue.id, dialogue.prompt, dialogue.reference]
        joined = [] if dialogue.chat is None else [dialogue.chat.model_dump(mode="json", exclude={"messages"})]
        return digest_value([*text, *joined])[:32]

    return key
