"""The cost card as tables of a page."""

from __future__ import annotations

from typing import Any

from ncc.report.cost import Cost


def tables(cost: Cost) -> list[dict[str, Any]]:
    """The tables of a card, each with a title, rows of texts, the first of which is a `head` or
    not, and a note."""
    takes = cost.takes
    rows = [["flash", _bytes(takes.flash)], ["  code", _bytes(takes.code)],
            ["  tables", _bytes(takes.tables)], ["RAM", _bytes(takes.ram)],
            *[[f"  {name}", _bytes(n)] for name, n in takes.memory.items() if n],
            ["stack", _bytes(takes.stack)], ["multiply-adds of a sample", f"{cost.macs:,}"],
            *[[f"  {name} of a sample", f"{n:,}"] for name, n in cost.calls.items()]]
    what = f"{cost.target}, {cost.dtype} {cost.numerics}" + ", for few bytes" * cost.small \
        + ", weights in the code" * cost.embedded
    made = [{"title": what, "rows": rows, "head": False, "note": ""}]
    counted = any(f.instructions is not None for f in cost.functions.values())
    heads = ["function", "form", *["instructions"] * counted, "cycles"]
    calls = [[name, cost.forms.get(name, ""),
              *[_number(f.instructions)] * counted, _number(f.cycles)]
             for name, f in cost.functions.items()]
    by = list(dict.fromkeys([f.cycles_by for f in cost.functions.values() if f.cycles_by]))
    notes = [f"Instructions of one call, counted by {cost.counted_by}."] * counted
    notes += [f"Cycles of a sample are predicted {how}." for how in by]
    made.append({"title": "", "rows": [heads, *calls], "head": True, "note": " ".join(notes)})
    return made


def _bytes(count: int | None) -> str:
    return "not known" if count is None else f"{count:,} B"


def _number(count: float | None) -> str:
    return "" if count is None else f"{count:,.0f}"
