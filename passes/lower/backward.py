"""The sweep back: a plan's gradients as ssa ops, in the straight and in the table form.

A sweep forward keeps each neuron's value and its activation's argument in `work`; the sweep back
gathers, for each neuron, its readers' deltas times their weights (no scatter, but where an
aggregation chooses among its edges), and multiplies by the slope of its activation, which
ncc/scalar/derivative.py derives. O(W+N), as the sweep forward (Griewank and Walther 2008, chapter
4).
"""

from __future__ import annotations

from ncc.ir.plan import Plan, Schedule
from ncc.ir.ssa import Table
from ncc.passes.lower.backward_frame import Sweep
from ncc.passes.lower.backward_loops import Tabled
from ncc.passes.lower.backward_unrolled import Straight


def sweep(schedule: Schedule, plan: Plan, dtype: str, numerics: str, tables: dict[str, Table],
          native: int, recompute: int = 0, registers: int = 16) -> Sweep:
    """The form that the schedule names; tables are added to `tables`. Where the table form would
    keep more than `recompute` bytes of values, it computes them again by blocks of the net."""
    form = Straight if schedule.form == "straight" else Tabled
    return form(plan, dtype, numerics, tables, native, recompute, registers)
