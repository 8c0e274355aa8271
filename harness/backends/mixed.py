"""The backends of a run that measures both weights in this process and served models."""

from __future__ import annotations

from collections.abc import Sequence

from harness.backends.base import Backend, Backends, Check
from harness.backends.ranks import Share
from harness.variants.model import Variant


class MixedBackends:
    """Local and served variants side by side; see ``Backends`` for its methods."""

    def __init__(self, local: Backends, served: Backends) -> None:
        self._local = local
        self._served = served

    def of(self, variant: Variant) -> Backend:
        return (self._served if variant.is_served else self._local).of(variant)

    def check(self, *, allow_base_mismatch: bool) -> tuple[Check, ...]:
        """The servers first: they answer within seconds."""
        return tuple(
            row
            for backends in (self._served, self._local)
            for row in backends.check(allow_base_mismatch=allow_base_mismatch)
        )

    def take(self, share: Share) -> None:
        self._local.take(share)
        self._served.take(share)

    def fit_together(self, variants: Sequence[Variant]) -> bool:
        return self._local.fit_together([variant for variant in variants if not variant.is_served])

    def release(self) -> None:
        self._local.release()
        self._served.release()

    def close(self) -> None:
        try:
            self._served.close()
        finally:
            self._local.close()
