"""The sets of a run. A set is a run of its own: the first is the run folder itself, the others lie in ``sets/NAME``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness.config import RunConfig, SetConfig
from harness.dialogues.model import DialogueConfig
from harness.errors import HarnessError
from harness.progress import Progress

ONCE = ("latency", "memory")  # passes that tell nothing new on another set, and are measured on the first
OF_A_SET = ("prompt", "limit", "passes", "metrics")  # settings that a set may have for itself, besides its dialogues
_KEYS = re.compile(rf"\bdialogues\.(?=(?:{'|'.join(DialogueConfig.model_fields)})\b)")


def set_configs(config: RunConfig) -> dict[str, RunConfig]:
    """Return the config of each set's run by the set's name, in order; of a run without sets its own, under no name."""
    if config.sets is None:
        return {"": config}
    first = next(iter(config.sets))
    return {name: _config_of(config, one, first=name == first) for name, one in config.sets.items()}


def _config_of(config: RunConfig, one: SetConfig, *, first: bool) -> RunConfig:
    limits = [limit for limit in (config.limit, one.limit) if limit is not None]
    passes = config.passes if first else tuple(name for name in config.passes if name not in ONCE)
    own = {
        "sets": None,
        "dialogues": one.dialogues,
        "prompt": one.prompt or config.prompt,
        "limit": min(limits, default=None),
        "passes": passes if one.passes is None else one.passes,
        "metrics": config.metrics if one.metrics is None else one.metrics,
        # The columns to slice by are those of the first set's data.
        "stats": config.stats if first else config.stats.model_copy(update={"slices": ()}),
    }
    return config.model_copy(update=own)


def recorded_config(config: RunConfig) -> dict[str, Any]:
    """Return a config as ``run.json`` has it: the first set's, and under ``sets`` what each is measured with."""
    derived = set_configs(config)
    settings = next(iter(derived.values())).model_dump(mode="json", exclude={"sets"})
    if config.sets is None:
        return settings
    stated = {name: one.model_dump(mode="json") for name, one in config.sets.items()}
    own = {name: one.model_dump(mode="json", include=set(OF_A_SET)) for name, one in derived.items()}
    return {**settings, "sets": {name: {**stated[name], **own[name]} for name in derived}}


def read_recorded(settings: Mapping[str, Any]) -> RunConfig:
    """Return the config that ``run.json`` records; raise pydantic's ValidationError for one of another version."""
    of_the_first = dict.fromkeys(("dialogues", "limit")) if settings.get("sets") else {}
    return RunConfig.model_validate({**settings, **of_the_first})


def about(name: str, message: str) -> str:
    """Return a message that says which set it is about, with the set's own keys; without sets, the message."""
    return f"Set '{name}': {_KEYS.sub(rf'sets.{name}.', message)}" if name else message


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Let errors that the block raises say which set they are about."""
    try:
        yield
    except HarnessError as error:
        error.args = (about(name, str(error)),)
        raise


class SetProgress:
    """Shows on another progress what is done with a set, under the set's name."""

    def __init__(self, shown: Progress, name: str) -> None:
        self._shown = shown
        self._name = name

    def start(self, task: str, total: int, unit: str = "dialogues") -> None:
        self._shown.start(self._task(task), total, unit)

    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None:
        self._shown.advance(self._task(task), done, tokens, detail)

    def finish(self, task: str) -> None:
        self._shown.finish(self._task(task))

    def note(self, message: str) -> None:
        self._shown.note(about(self._name, message))

    def _task(self, task: str) -> str:
        return f"{self._name}: {task}"


def shown_on(progress: Progress, name: str) -> Progress:
    """Return a progress that says which set something is about; without sets, the progress."""
    return SetProgress(progress, name) if name else progress
