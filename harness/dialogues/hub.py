"""Data sets by hub id, and data set folders on disk, through ``datasets``; without a network, a quick answer.

Hub clients retry for half a minute when the network is absent. Here the hub is asked once, briefly, whether it can
be reached; where it cannot, only what was downloaded before is looked at.
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
    """Say whether ``source`` is written as ``owner/name``."""
    return _HUB_ID.fullmatch(source) is not None


def read_dataset(source: str, split: str) -> Iterator[SourceRow]:
    """Yield the rows of one split of a hub data set, or of a folder that ``datasets`` can read.

    Raises InputError where it does not exist, cannot be reached or has no such split.
    """
    for number, values in enumerate(_load(source, split), 1):
        yield SourceRow(number, values)


def _load(source: str, split: str) -> Dataset:
    import datasets

    folder = Path(source)
    saved = [name for name in ("dataset_dict.json", "state.json") if (folder / name).is_file()]
    reachable = not folder.exists() and not datasets.config.HF_HUB_OFFLINE and hub_is_reachable()
    try:
        with _quiet(datasets), _offline(datasets, unless=reachable):
            found = datasets.load_from_disk(source) if saved else datasets.load_dataset(source)
    except Exception as error:
        # datasets, its hub client and its file readers raise dozens of types, none with a common base.
        raise InputError(_why(source, folder, reachable, error)) from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise InputError(
                f"{source} has no split '{split}' (dialogues.hub_split); it has {', '.join(map(str, found))}."
                f"{did_you_mean(split, map(str, found))}"
            )
        found = found[split]
    rows: Dataset = found
    return rows


def _why(source: str, folder: Path, reachable: bool, error: Exception) -> str:
    if folder.exists():
        return f"{source}: no data set can be read from this folder ({first_line(error)}). Name a file in it."
    if isinstance(error, ConnectionError | TimeoutError) or not reachable:
        return (
            f"There is no file '{source}', and the data set of that name is neither downloaded nor can the hub be "
            "reached. Check the path, or download the data set first."
        )
    return f"The data set '{source}' cannot be loaded from the hub ({first_line(error)})."


@contextmanager
def _offline(datasets: ModuleType, *, unless: bool) -> Iterator[None]:
    """Keep the hub clients from asking a network that is not there; their switches are read once, at import."""
    if unless:
        yield
        return
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


@contextmanager
def _quiet(datasets: ModuleType) -> Iterator[None]:
    """Keep the library's warnings and bars off the terminal: what went wrong is said once, in the error."""
    verbosity, bars = datasets.logging.get_verbosity(), datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()
