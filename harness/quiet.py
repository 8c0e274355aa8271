"""Keep libraries from talking over this project's own progress: their bars and advice are about internals."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any


def quiet_libraries() -> None:
    """Silence progress bars, advice and deprecation warnings of the model libraries; errors are still raised.

    Called by commands before work begins, never on import.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked workers would be warned about at every start
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # medical text or not: nothing is sent anywhere
    for name in ("bitsandbytes", "transformers", "peft", "trl", "datasets", "torch", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{name}(\..*)?$")


def quiet_transformers() -> None:
    """Switch off transformers' own bars and advice; apart from the rest because it imports transformers."""
    from transformers.utils import logging as untyped

    transformers_logging: Any = untyped
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
