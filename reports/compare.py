"""Several runs side by side: the results of each, and what differs between them. The first is the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.errors import InputError
from harness.store.folder import RunFolder
from harness.store.seals import is_measured
from harness.variants.digests import is_present
from reports.baseline import earlier_cells
from reports.cells import Cell, Earlier
from reports.escape import shorten, visible
from reports.numbers import amount, count
from reports.render import render_page
from reports.text import aligned, with_change
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView, read_view
from reports.words import FAMILIES, VERDICTS, direction, sentence_case


@dataclass(frozen=True)
class CompareRow:
    """A metric of one variant over all runs. ``earlier`` of each cell is the first run's."""

    label: str
    direction: str
    unit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class CompareGroup:
    """One variant's metrics of one family."""

    variant: str
    family: str
    rows: tuple[CompareRow, ...]

    @property
    def title(self) -> str:
        return FAMILIES.get(self.family, sentence_case(self.family))


@dataclass(frozen=True)
class CompareVariant:
    """One variant's metrics over all runs; ``finding`` counts what differs from the first."""

    name: str
    groups: tuple[CompareGroup, ...]
    finding: str


def render_comparison(folders: Sequence[RunFolder]) -> str:
    """Return one HTML page with the runs side by side; raise InputError for fewer than two."""
    views = _views(folders)
    groups = comparison_groups(views)
    facts = {
        "heads": [
            {
                "name": name,
                "finished": (view.manifest.finished or "not finished")[:19].replace("T", " "),
                "dialogues": len(view.dialogues),
                "sentence": verdict_sentence(view),
                "gate": VERDICTS[view.gate.verdict] if view.gate else None,
                "obstacle": _usual_obstacle(groups, k),
            }
            for k, (view, name) in enumerate(zip(views, _names(views), strict=True))
        ],
        "variants": _by_variant(groups),
        "settings": differing_settings(views),
    }
    return render_page("compare.html", facts)


def comparison_text(folders: Sequence[RunFolder]) -> str:
    """Return the runs side by side as plain text for a terminal."""
    views = _views(folders)
    names = [visible(name) for name in _names(views)]
    lines = [f"{name}: {visible(verdict_sentence(view))}" for name, view in zip(names, views, strict=True)]
    for group in comparison_groups(views):
        table = [[f"{visible(group.variant)} · {FAMILIES.get(group.family, group.family).split(':')[0]}", *names]]
        for row in group.rows:
            texts = [
                with_change(c.value, c.earlier.change, c.earlier.sign) if c.earlier else c.value for c in row.cells
            ]
            table.append([visible(row.label), *texts])
        lines += ["", *aligned(table)]
    return "\n".join(lines) + "\n"


def _views(folders: Sequence[RunFolder]) -> list[RunView]:
    if len(folders) < 2:
        raise InputError("A comparison needs at least two run folders.")
    return [read_view(folder) for folder in folders]


def _names(views: Sequence[RunView]) -> list[str]:
    """Return a name for each run, with the parent folder's if names repeat."""
    names = [view.name for view in views]
    if len(set(names)) == len(names):
        return names
    longer = [f"{view.folder.root.resolve().parent.name}/{view.name}" for view in views]
    return longer if len(set(longer)) == len(longer) else [f"{k + 1}: {name}" for k, name in enumerate(longer)]


def comparison_groups(views: Sequence[RunView]) -> tuple[CompareGroup, ...]:
    """Return every variant's metrics over the runs, one group per variant and family."""
    first = views[0]
    changes = [{}, *(earlier_cells(view, first) for view in views[1:])]
    leading = [first.candidate] if first.candidate else []
    variants = dict.fromkeys([*leading, *(variant for view in views for variant in view.variants)])
    families = dict.fromkeys(family for view in views for family in view.families)
    groups = []
    for variant in variants:
        for family in families:
            names = dict.fromkeys(name for view in views for name in view.names(family) if "[" not in name)
            rows = [_row(views, changes, name, variant) for name in names]
            kept = tuple(row for row in rows if any(cell.order is not None for cell in row.cells))
            if kept:
                groups.append(CompareGroup(variant, family, kept))
    return tuple(groups)


def _by_variant(groups: Sequence[CompareGroup]) -> tuple[CompareVariant, ...]:
    found = []
    for name in dict.fromkeys(group.variant for group in groups):
        own = tuple(group for group in groups if group.variant == name)
        rows = [row for group in own for row in group.rows]
        words = Counter(
            cell.earlier.sign.word
            for row in rows
            for cell in row.cells
            if cell.earlier and cell.earlier.sign and not cell.earlier.quiet
        )
        told = [f"{number} {word}" for word, number in words.items()]
        finding = f"{count(len(rows), 'metric')}; against the first run: {', '.join(told) or 'no clear difference'}."
        found.append(CompareVariant(name, own, finding))
    return tuple(found)


def _usual_obstacle(groups: Sequence[CompareGroup], run: int) -> str:
    """Return why most of a run's metrics cannot be compared with the first run's; empty if most can."""
    cells = [row.cells[run] for group in groups for row in group.rows]
    told = Counter(cell.earlier.obstacle if cell.earlier else "" for cell in cells)
    return max(told, key=told.__getitem__, default="")


def _row(
    views: Sequence[RunView], changes: Sequence[Mapping[tuple[str, str], Earlier]], name: str, variant: str
) -> CompareRow:
    view = next(view for view in views if view.metric(name))
    return CompareRow(
        label=view.label(name),
        direction=direction(view.summary.metrics[name].higher_is_better),
        unit=view.unit(name),
        cells=tuple(_cell(one, change, name, variant) for one, change in zip(views, changes, strict=True)),
    )


def _cell(view: RunView, changes: Mapping[tuple[str, str], Earlier], name: str, variant: str) -> Cell:
    row, metric = view.estimate(name, variant), view.metric(name)
    if row is None or row.value is None or metric is None:
        return Cell("not measured")
    value, interval = amount(row.value, row.low, row.high, unit=metric.unit)
    return Cell(value, interval, order=row.value, earlier=changes.get((name, variant)))


def differing_settings(views: Sequence[RunView]) -> tuple[tuple[str, ...], ...]:
    """Return the settings, versions and digests that differ between runs: a name, then one value per run."""
    known = [_settings(view) for view in views]
    keys = dict.fromkeys(key for facts in known for key in facts)
    rows = []
    for key in keys:
        values = tuple(facts.get(key, "–") for facts in known)
        if len(set(values)) > 1 and not _of_two_forms(values):
            rows.append((key, *values))
    return tuple(rows)


def _of_two_forms(values: Sequence[str]) -> bool:
    """Return whether these are digests of weights by 0.1.0 and by later versions: they may be of the same weights."""
    return "–" not in values and len({is_present(value) for value in values}) > 1


def _settings(view: RunView) -> dict[str, str]:
    manifest, provenance = view.manifest, view.manifest.provenance
    facts: dict[str, object] = {
        "config": manifest.config,
        "template digest": manifest.template_digest,
        "variants": {name: {k: v for k, v in row.items() if k != "name"} for name, row in view.facts.items()},
        "digest": {key: value for key, value in manifest.digests.items() if not is_measured(key)},
        "held out": manifest.held_out,
        "version": provenance.get("versions"),
        "machine": provenance.get("hardware"),
        "source": provenance.get("git"),
    }
    return _flat("", facts)


def _flat(prefix: str, value: object) -> dict[str, str]:
    """Return nested facts as one level, keys joined by spaces."""
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _flat(f"{prefix} {key}".strip(), inner)
        return found
    return {prefix: "–" if value is None else shorten(str(value), 300)}
