"""The backward pass: a plan's gradients as ssa ops, unrolled or as loops over arrays.

A forward pass keeps each neuron's value and its activation's argument in `work`; the backward pass
gathers, for each neuron, its readers' deltas times their weights (no scatter, but where an
aggregation chooses among its edges), and multiplies by the derivative of its activation, which
ncc/scalar/derivative.py derives. O(W+N), as the forward pass (Griewank and Walther 2008, chapter
4).
"""

from __future__ import annotations

from ncc.ir.plan import Plan, Schedule
from ncc.ir.ssa import Table
from ncc.passes.lower.reverse.frame import Backward
from ncc.passes.lower.reverse.loops import Loops
from ncc.passes.lower.reverse.unrolled import Unrolled


def sweep(schedule: Schedule, plan: Plan, dtype: str, numerics: str, tables: dict[str, Table],
          native: int, recompute: int = 0, registers: int = 16) -> Backward:
    """The form that the schedule names; arrays are added to `tables`. Where the looped form would
    keep more than `recompute` bytes of values, it computes them again by stages of the net."""
    form = Unrolled if schedule.form == "straight" else Loops
    return form(plan, dtype, numerics, tables, native, recompute, registers)
