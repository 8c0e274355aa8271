"""Hub datasets and dataset folders on disk, through the ``datasets`` library.

Hub clients retry for half a minute without a network. Here one brief probe decides whether the Hub is reachable; if
not, only earlier downloads are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from harness.dialogues.files import SourceRow
from harness.errors import InputError, did_you_mean, first_line
from harness.machine import hub_is_reachable

if TYPE_CHECKING:
    from datasets import Dataset

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(source: str) -> bool:
    """Return whether ``source`` has the form ``owner/name``."""
    return _HUB_ID.fullmatch(source) is not None


def read_dataset(source: str, split: str, config: str | None = None) -> Iterator[SourceRow]:
    """Yield the rows of one split of a Hub dataset, or of a folder that ``datasets`` can read.

    Raises InputError if it does not exist, cannot be reached, has no such split, or has several configurations of which
    none was chosen.
    """
    for number, values in enumerate(_load(source, split, config), 1):
        yield SourceRow(number, values)


def _load(source: str, split: str, config: str | None) -> Dataset:
    import datasets

    folder = Path(source)
    saved = [name for name in ("dataset_dict.json", "state.json") if (folder / name).is_file()]
    reachable = not folder.exists() and not datasets.config.HF_HUB_OFFLINE and hub_is_reachable()
    if saved and config is not None:
        raise InputError(f"{source} is a saved dataset without configurations: leave dialogues.hub_config out.")
    try:
        with _quiet(datasets), _offline(datasets, unless=reachable):
            found = datasets.load_from_disk(source) if saved else datasets.load_dataset(source, config)
    except Exception as error:
        # datasets, its Hub client and its file readers raise dozens of types without a common base.
        with _quiet(datasets):
            problem = _config_problem(source, config) if reachable or folder.exists() else None
        raise InputError(problem or _load_problem(source, folder, reachable, error)) from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise InputError(
                f"{source} has no split '{split}' (dialogues.hub_split); it has {', '.join(map(str, found))}."
                f"{did_you_mean(split, map(str, found))}"
            )
        found = found[split]
    rows: Dataset = found
    return rows


def _config_problem(source: str, config: str | None) -> str | None:
    """Return what is wrong with the choice of a configuration, or None if it is not to blame."""
    import datasets

    try:
        names = datasets.get_dataset_config_names(source)
    except Exception:  # as above: the dataset cannot be read at all
        return None
    if config in names or (config is None and len(names) < 2):
        return None
    said = "has several configurations" if config is None else f"has no configuration '{config}'"
    return (
        f"{source} {said}; set dialogues.hub_config to one of {', '.join(names)}."
        f"{did_you_mean(config, names) if config else ''}"
    )


def _load_problem(source: str, folder: Path, reachable: bool, error: Exception) -> str:
    if folder.exists():
        return f"{source}: no dataset can be read from this folder ({first_line(error)}). Give a file in it."
    if isinstance(error, ConnectionError | TimeoutError) or not reachable:
        return (
            f"There is no file '{source}', no dataset of that name has been downloaded, and the Hub cannot be reached. "
            "Check the path, or download the dataset first."
        )
    return f"The dataset '{source}' cannot be loaded from the Hub ({first_line(error)})."


@contextmanager
def _offline(datasets: ModuleType, *, unless: bool) -> Iterator[None]:
    """Put the Hub clients in offline mode; they read the environment variable only at import."""
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    if not unless:
        datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


@contextmanager
def _quiet(datasets: ModuleType) -> Iterator[None]:
    """Silence the library's warnings and progress bars; errors are still raised."""
    verbosity, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()
