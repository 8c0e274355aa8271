"""Which units of the latency pass are finished: all repeats for all variants timed together, or none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from harness.files import write_rows
from harness.passes.base import PassContext
from harness.passes.latency.units import Slot, Unit, slot_of
from harness.results.timings import NS_A_SECOND, finished
from harness.store.folder import RecordWriter
from harness.store.schema import LatencyRecord
from harness.variants.model import Variant

TASK = LatencyRecord.measured_by
NO_MEMORY = "out of memory"


class Ledger:
    """The records on disk, by unit. Records of units that are not planned are dropped."""

    def __init__(self, context: PassContext, units: Sequence[Unit]) -> None:
        self._context = context
        self._rows = {
            variant.name: context.folder.records(LatencyRecord, TASK, variant.name) for variant in context.variants
        }
        self._keep(context.variants, set[Slot]().union(*(unit.slots for unit in units)))

    @property
    def next_order(self) -> int:
        """Return the place of the next request in the whole sequence."""
        return 1 + max((row.order for rows in self._rows.values() for row in rows), default=0)

    def unfinished(self, units: Sequence[Unit], variants: Sequence[Variant]) -> list[Unit]:
        """Return the units that at least one of the variants lacks, in order."""
        timed = set.intersection(*({slot_of(row) for row in self._rows[variant.name]} for variant in variants))
        return [unit for unit in units if not unit.slots <= timed]

    def drop(self, units: Iterable[Unit], variants: Sequence[Variant]) -> None:
        """Drop these variants' records of these units, which are timed again from the start."""
        dropped = set[Slot]().union(*(unit.slots for unit in units))
        self._keep(variants, {slot_of(row) for one in variants for row in self._rows[one.name]} - dropped)

    def ended(self) -> dict[tuple[str, str], int]:
        """Return the batch size at which memory ran out in earlier sessions, by variant and engine."""
        found: dict[tuple[str, str], int] = {}
        for name, rows in self._rows.items():
            for row in rows:
                if row.error == NO_MEMORY:
                    found[name, row.engine] = min(row.batch, found.get((name, row.engine), row.batch))
        return found

    def of(self, units: Iterable[Unit], variant: str) -> list[LatencyRecord]:
        """Return the variant's records of these units."""
        asked = set[Slot]().union(*(unit.slots for unit in units))
        return [row for row in self._rows[variant] if slot_of(row) in asked]

    def seconds(self, variants: Sequence[Variant], units: Sequence[Unit] | None = None) -> float:
        """Return how long the recorded requests of these variants (and units) took, by their stamps and setup."""
        stamped, setup = 0, 0.0
        for one in variants:
            together: dict[Slot, list[LatencyRecord]] = {}
            for row in self._rows[one.name] if units is None else self.of(units, one.name):
                together.setdefault(slot_of(row), []).append(row)
                setup += row.setup_seconds
            # Requests to a server overlap.
            for rows in (finished(rows) for rows in together.values()):
                if rows:
                    stamped += max(row.stamps_ns[-1] for row in rows) - min(row.submitted_ns for row in rows)
        return stamped / NS_A_SECOND + setup

    def timed(self, units: Iterable[Unit], variant: str) -> int:
        """Return how many of these units, repeats counted, have records of the variant."""
        return len({slot_of(row) for row in self.of(units, variant)})

    def write(self, records: dict[str, list[LatencyRecord]]) -> None:
        """Append one unit's records of each variant."""
        for name, rows in records.items():
            with RecordWriter(self._context.folder.records_path(TASK, name)) as writer:
                writer.append(rows)
            self._rows[name].extend(rows)

    def _keep(self, variants: Sequence[Variant], wanted: Set[Slot]) -> None:
        for variant in variants:
            rows = self._rows[variant.name]
            kept = [row for row in rows if slot_of(row) in wanted]
            if len(kept) < len(rows):
                write_rows(self._context.folder.records_path(TASK, variant.name), kept)
                self._rows[variant.name] = kept
