"""Which backend a variant runs on, by its kind. Every variant of today has its weights on this machine: ``local``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from harness.backends.base import Backends, Event

if TYPE_CHECKING:
    from harness.variants.model import Variant


class Open(Protocol):
    """Opens the backends of a run's variants; nothing is loaded yet.

    ``device`` is ``cpu`` or ``cuda:N``; ``batch_tokens`` bounds a batch (absent: free memory does), ``threads`` the
    processor's; ``event`` is told what the report must say.
    """

    def __call__(
        self,
        variants: Sequence[Variant],
        device: str,
        *,
        event: Event,
        batch_tokens: int | None = None,
        threads: int | None = None,
    ) -> Backends: ...


def open_backends(
    variants: Sequence[Variant],
    device: str,
    *,
    event: Event,
    batch_tokens: int | None = None,
    threads: int | None = None,
) -> Backends:
    """Return the backends of these variants; see ``Open``."""
    from harness.backends.local.backend import LocalBackends

    return LocalBackends(variants, device, event=event, batch_tokens=batch_tokens, threads=threads)
