"""The learning curve that `ncc train --curve` writes, read again."""

from __future__ import annotations

from ncc.errors import NccError, Source, Span
from ncc.report.page.facts import numbers

HEAD = "epoch,loss,validation"
MOST = 5000  # epochs that are shown; of more, every second, third, ...


def curve(source: Source) -> dict[str, list[float | str | None]]:
    """The columns of the file: `epoch`, `loss` and `validation`, null where a cell is empty.
    NccError E623 for another file."""
    rows: list[list[float]] = []
    head = False
    for at, line in enumerate(source.text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not head and line.strip() != HEAD:
            raise NccError("E623", "no learning curve: it begins with " + HEAD, source,
                           Span(at, 1, len(line)), help="ncc train ... --curve CSV")
        if not head:
            head = True
            continue
        try:
            cells = [float(cell) if cell.strip() else float("nan") for cell in line.split(",")]
        except ValueError:
            cells = []
        if len(cells) != 3:
            raise NccError("E623", "no epoch, loss and validation", source, Span(at, 1, len(line)))
        rows.append(cells)
    if not rows:
        raise NccError("E623", f"{source.name} holds no epoch")
    kept = rows[:: -(-len(rows) // MOST)]
    return dict(zip(HEAD.split(","), map(numbers, map(list, zip(*kept, strict=True))),
                    strict=True))
