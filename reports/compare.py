"""Several runs side by side: the results of each, and what differs between them. The first is the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.errors import InputError
from harness.store.config_changes import ConfigChange, config_changes, dotted, shown
from harness.store.folder import RunFolder
from harness.store.seals import is_measured
from harness.variants.digests import is_present
from reports.cells import Cell
from reports.compare_rows import CompareRow, Comparison
from reports.compare_sets import SetLine, set_lines, without_unshared_sets
from reports.escape import shorten, visible
from reports.numbers import count
from reports.render import render_page
from reports.systems import System, lead
from reports.terminal import continued, wrapped
from reports.text import with_change
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView, read_view
from reports.words import FAMILIES, VERDICTS, Sign

_NAMED = 12  # equal metrics that the terminal names
_CHANGES = 12  # changed keys that the terminal shows of one run


@dataclass(frozen=True)
class RunHead:
    """What is said of a run before any table; ``notes``, ``changes`` and ``sets`` are against the first run."""

    name: str
    finished: str
    dialogues: int
    sentence: str
    gate: Sign | None
    obstacle: str
    notes: tuple[str, ...]
    changes: tuple[ConfigChange, ...]
    sets: tuple[SetLine, ...]


def render_comparison(folders: Sequence[RunFolder]) -> str:
    """Return one HTML page with the runs side by side; raise InputError for fewer than two."""
    found = comparison(folders)
    ranked = lead(found.views)
    facts = {
        "heads": run_heads(found),
        "ranked": ranked_by(found),
        "ranking": [(_label(one.system), one.basis, found.row(ranked, one.system)) for one in found.compared]
        if ranked
        else [],
        "systems": [(one, _label(one.system)) for one in found.compared],
        "settings": differing_settings(found.views),
    }
    return render_page("compare.html", facts)


def comparison_text(folders: Sequence[RunFolder]) -> str:
    """Return the runs side by side as plain text for a terminal of 80 columns."""
    found = comparison(folders)
    lines = []
    heads = run_heads(found)
    for head in heads:
        told = [*head.notes, *(f"Changed: {change}" for change in head.changes[:_CHANGES])]
        more = len(head.changes) - _CHANGES
        told += [f"Changed: {count(more, 'more key')}, which the page names"] if more > 0 else []
        if told:
            lines += wrapped(f"{head.name} against {heads[0].name}:")
            lines += [*(line for one in told for line in wrapped(f"  {one}", "    ")), ""]
    for head in heads:
        lines += wrapped(f"{head.name}: {head.sentence}", "  ")
        for line in head.sets:
            lines += wrapped(f"{head.name}: {visible(line.words)}", "  ")
            lines += [f"  More: {line.command}"] if line.command else []
    names = [shorten(visible(name), 24) for name in found.names]
    if ranked := lead(found.views):
        lines += ["", ranked_by(found)]
        rows = [(_label(one.system), found.row(ranked, one.system)) for one in found.compared]
        lines += _table("", names, [(visible(name), row.cells) for name, row in rows])
    for one in found.compared:
        lines += ["", *wrapped(f"{_label(one.system)}: {one.finding}")]
        for group in one.groups if any(one.system.against) else ():  # the others' metrics are on the page
            title = FAMILIES.get(group.family, group.family).split(":")[0]
            kept = [k for k, name in enumerate(one.system.names) if name is not None]
            rows_of = [(visible(_with_unit(row)), [row.cells[k] for k in kept]) for row in group.rows]
            lines += _table(title, [names[k] for k in kept], rows_of)
        if 0 < len(one.equal) <= _NAMED:  # the finding counts them, and the page names them all
            lines += wrapped(f"{one.equal_sentence}: {', '.join(one.equal)}", "  ")
    return "\n".join(lines) + "\n"


def comparison(folders: Sequence[RunFolder]) -> Comparison:
    """Read the runs; raise InputError for fewer than two."""
    if len(folders) < 2:
        raise InputError("A comparison needs at least two run folders.")
    views = tuple(read_view(folder) for folder in folders)
    return Comparison(views, tuple(_names(views)))


def run_heads(found: Comparison) -> tuple[RunHead, ...]:
    """Return what is said of each run before any table."""
    first = found.views[0]
    return tuple(
        RunHead(
            name=name,
            finished=(view.manifest.finished or "not finished")[:19].replace("T", " "),
            dialogues=len(view.dialogues),
            sentence=verdict_sentence(view),
            gate=VERDICTS[view.gate.verdict] if view.gate else None,
            obstacle=found.obstacle(k) if k else "",
            notes=tuple(_notes(found, k)) if k else (),
            changes=config_changes(*without_unshared_sets(first, view)) if k else (),
            sets=set_lines(found, k) if k else (),
        )
        for k, (view, name) in enumerate(zip(found.views, found.names, strict=True))
    )


def _notes(found: Comparison, run: int) -> Iterator[str]:
    """Say what prevents a comparison with the first run: other dialogues, or no candidate in common."""
    first, view, other = found.names[0], found.views[run], {row.id for row in found.views[0].dialogues}
    obstacle = found.obstacle(run)
    if obstacle in ("different dialogues", "no dialogue in common"):
        shared = len(other & {row.id for row in view.dialogues})
        yield (
            f"It asked other dialogues than {first} ({shared:,} of {len(view.dialogues):,} ids in common), so no "
            "differences are shown."
        )
    elif obstacle:
        yield f"It cannot be compared with {first}: {obstacle}."
    if view.candidate and not found.shared_candidate(run):
        theirs = found.views[0].candidate
        yield (
            f"No candidate in common: {first} has no variant of the weights or the name of {view.candidate}"
            f"{f'; its own is {theirs}' if theirs else ''}."
        )


def ranked_by(found: Comparison) -> str:
    """Say by what the systems are in order."""
    name = lead(found.views)
    label = next((view.label(name) for view in found.views if name and view.metric(name)), "")
    return f"Systems, best first by {label} (in the last run that has each)" if name else "Systems"


def _label(system: System) -> str:
    """Return a system's name and the first digits of its weights' digest, which tell two of one name apart."""
    weights = (system.identity.weights or "").removeprefix("v2:")[:8]
    quantized = system.identity.how[0] if system.identity.how[0] != "none" else ""
    told = ", ".join(filter(None, (weights, quantized)))
    name = shorten(system.name, 32)
    return f"{name} ({told})" if told else name


def _with_unit(row: CompareRow) -> str:
    return f"{row.label} ({row.unit})" if row.unit else row.label


def _table(title: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]]) -> list[str]:
    """Return a table with a column a run, continued below where the terminal is too narrow for all of them."""
    return continued([(title, *names), *((label, *map(_told, cells)) for label, cells in rows)])


def _told(cell: Cell) -> str:
    if cell.order is None:
        return "–"
    if cell.same:
        return f"{cell.value}  ="
    return with_change(cell.value, cell.earlier.change, cell.earlier.sign) if cell.earlier else cell.value


def _names(views: Sequence[RunView]) -> list[str]:
    """Return a name for each run, with the parent folder's if names repeat."""
    names = [view.name for view in views]
    if len(set(names)) == len(names):
        return names
    longer = ["/".join(view.folder.root.resolve().parts[-2 - view.name.count("/") :]) for view in views]
    return longer if len(set(longer)) == len(longer) else [f"{k + 1}: {name}" for k, name in enumerate(longer)]


def differing_settings(views: Sequence[RunView]) -> tuple[tuple[str, ...], ...]:
    """Return the versions, machines, digests and facts of variants that differ between runs: a name, a value per run.

    Settings of the config are told apart from these.
    """
    known = [dotted(_facts(view)) for view in views]
    rows = []
    for key in dict.fromkeys(key for facts in known for key in facts):
        values = [facts.get(key) for facts in known]
        if any(value != values[0] for value in values) and not _of_two_forms(values):
            rows.append((key, *(shown(key, value) for value in values)))
    return tuple(rows)


def _of_two_forms(values: Sequence[object]) -> bool:
    """Return whether these are digests of weights by 0.1.0 and by later versions: they may be of the same weights."""
    return None not in values and len({is_present(str(value)) for value in values}) > 1


def _facts(view: RunView) -> dict[str, object]:
    manifest, provenance = view.manifest, view.manifest.provenance
    return {
        "template digest": manifest.template_digest,
        "variants": manifest.variants,
        "digests": {key: value for key, value in manifest.digests.items() if not is_measured(key)},
        "held out": manifest.held_out,
        "versions": provenance.get("versions"),
        "machine": provenance.get("hardware"),
        "source": provenance.get("git"),
    }
