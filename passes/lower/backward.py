"""The backward pass: a plan's gradients as ssa ops, in the straight and in the table form.

The forward pass keeps each neuron's value and its activation's argument in `work`; the backward
pass gathers, for each neuron, its readers' adjoints times their weights (no scatter, but where an
aggregation chooses among its edges), and multiplies by the derivative of its activation, which
ncc/scalar/derivative.py derives. O(W+N), as the forward pass (Griewank and Walther 2008, chapter
4).
"""

from __future__ import annotations

from dataclasses import replace

from ncc.ir.plan import Plan, Wanted, keeper
from ncc.ir.ssa import Buffer, Func
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.reverse.frame import Backward, Ends, lanes
from ncc.passes.lower.reverse.loops import Loops
from ncc.passes.lower.reverse.unrolled import Unrolled
from ncc.passes.lower.sample.single import Single, fits


def functions(plan: Plan, tables: Tables, *, dtype: str, numerics: str, native: int, registers: int,
              provenance: bool) -> list[Func]:
    """Of the functions that `differentiate` asks for those that the plan names.

        08 <- 04 05              =>     %9 = load dy[0]             adjoint of neuron 08
                                        %12 = mul %9, %11           ... of its sum: its delta
                                        %14 = mul %12, %2           what it adds to that of 04
                                        accumulate %12, %4, gradient[0]

    Gradients of a batch are summed in `work` and added to `dparams` at the end of each chunk of
    samples, where the caller gave any; the ties' sums are made there. In which order:
    ncc/scalar/sum_order.py.
    """
    g = plan.graph
    n_inputs, n_outputs = len(g.inputs), len(g.outputs)
    ends = Ends(
        (Buffer("x", "in", n_inputs), Buffer("packed", "in", len(plan.packed)),
         Buffer("dy", "in", n_outputs), Buffer("dx", "out", n_inputs),
         Buffer("dparams", "inout", g.n_params)))
    funcs: list[Func] = []
    for wanted in plan.functions:
        if not wanted.name.startswith("backward") and wanted.name != "each_backward":
            continue
        if not funcs:
            tables.begin()
        wide = lanes(native, dtype) if wanted.batch else 0
        form = backward_pass(wanted, plan, dtype, numerics, tables, native, registers, provenance)
        if wanted.name == "each_backward":
            own = {"packed": Buffer("params", "in", g.n_params),
                   "dparams": Buffer("dparams", "out", g.n_params)}
            rows = tuple([own.get(buffer.name, buffer) for buffer in ends.buffers])
            funcs.append(form.each(wanted.name, native, replace(ends, buffers=rows)))
            continue
        if not wanted.name.endswith("_kept"):
            funcs.append(form.function(wanted.name, wide, ends))
            continue
        assert isinstance(form, Loops)
        held = Buffer("kept", "in", plan.n_kept)
        after = replace(ends, buffers=(*ends.buffers[:2], held, *ends.buffers[2:]))
        back = form.function(wanted.name, wide, after)
        funcs += [form.forward_alone(keeper(wanted.name)), back]
    return funcs


def backward_pass(wanted: Wanted, plan: Plan, dtype: str, numerics: str, tables: Tables,
                  native: int, registers: int, provenance: bool) -> Backward:
    """The form of a function, which its schedule names; tables are added to `tables`. Where the
    table form would keep more bytes of values than are `wanted`, it computes them again by blocks
    of the net."""
    form: type[Backward] = Loops
    if plan.schedule_of(wanted).form == "straight":
        form = Unrolled
    elif (native > 1 and not wanted.batch and not wanted.recompute
          and not wanted.name.endswith("_kept") and fits(plan)):
        form = Single
    return form(plan, dtype, numerics, tables, native, wanted.recompute, registers, provenance)
