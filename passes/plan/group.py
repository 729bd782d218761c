"""The form in which each function computes the net, and the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ncc.errors import NccError
from ncc.ir import csr
from ncc.ir.graph import NONE, Graph, Ints, Longs, refuse_states
from ncc.ir.plan import FORMS, FORWARD, Plan, Run, Schedule, Segment, Wanted
from ncc.ir.plan_types import evaluation_order, first_uses, packed_codes, packed_starts
from ncc.machine.model import CHAINS, SLOWER
from ncc.passes.plan.cost import Prediction, in_order, predict, size, tiles

# Above these, straight code takes too long to compile; passes/plan/cost.py says what runs fastest.
STRAIGHT = 14_336  # edges, rows and outputs
STRAIGHT_BY_LLVM = 160  # where ncc does not write the assembly itself
STRAIGHT_BATCH = 24  # a loop with its values in the cache is as fast
# ... and above these, longer than edges allow for.
FEW, PER_EDGE = 500, 2
# The backward pass is twice as long, and keeps more at hand.
STRAIGHT_BACKWARD = 192  # edges, rows, inputs and outputs
STRAIGHT_BACKWARD_BATCH = 48
STRAIGHT_JACOBIAN = 640  # a forward pass and one pass back for all outputs, in vectors
EVEN = 1.1  # times the cycles of a loop at which straight code, which needs less work, is taken
WORTH = 65_536  # ... of straight code, whose compile must make it twice as fast to be worth it
# Shared rows have code for each kind of blocks, which takes as long to compile as so many edges may
# beyond a few.
KINDS, PER_KIND = 2, 1_250
LARGER = 1.25  # times the bytes of a table, up to which shared rows that are faster are worth it
SIDE = CHAINS  # blocks of one in-list side by side
SCALARS = 4  # rows of a block without vectors: sums that any machine's registers hold


def group(graph: Graph, *, form: str = "auto", batch_form: str = "auto", gradient: bool = False,
          backward_form: str = "auto", native: int = 1, assembles: bool = False,
          small: bool = False, balanced: bool = False,
          timed: Sequence[str] = (), embedded: bool = False, forwards: bool = True,
          each: bool = False, jacobian: bool = False) -> Plan:
    """Cut an ordered graph into runs of rows, in blocks, and choose a form for each function.

        // form=shared batch_form=shared
        graph 07                              plan 7 neurons, 4 rows, 9 edges, 9 packed
        inputs 00 01 02                       functions pack, forward, forward_batch
        outputs 06                            single: shared, unplaced (asked for)
        values - - - - - - - - -              batch: shared, unplaced (asked for)
        constants                             run activation 03 sum {
        00 @0 input                             segment of 2 edges a row, tiles of 2 rows
        01 @0 input                             tile of 2 rows
        02 @0 input                       =>    03 <- 00 01
        03 @1 relu sum 00*p0 01*p1              05 <- 00 01
        04 @1 relu sum 00*p2 01*p3 02*p4        04 <- 00 01 02
        05 @1 relu sum 00*p5 01*p6            }
        06 @2 tanh sum 04*p7 05*p8            run activation 02 sum {
                                                06 <- 04 05
                                              }
                                              ...

    A run is a longest stretch of rows with one activation and one aggregation, so a net of one
    kind of neuron is one run. Rows that read the same sources in the same order share blocks of a
    vector's `native` lanes, up to SIDE of them side by side, in the form `shared`; the others, and
    all in the form `table`, are blocks of their own. Rows are sorted by level, activation,
    aggregation, fan-in, in-list and index. The form of each function is the one that
    passes/plan/cost.py predicts to be fastest, of those that are short enough and faster by as much
    as their compile takes longer; forms of backward functions are chosen where a `gradient` is
    asked for. Where code is to be `small`, bytes decide; where it is to be `balanced`, of the forms
    that are at most SLOWER times as slow as the fastest. `timed` names the options whose form was
    not asked for but found by ncc/runtime/tune.py.

    The plan wants `pack`, unless all parameters are `embedded`, forward and forward_batch, and of a
    net with states `reset` and `steps`; without `forwards` only `pack`, for those who have the
    others and want gradients beside them; and `each`, a batch whose samples have parameters of
    their own, where it is asked for.
    """
    _sound(graph, (form, batch_form, backward_form), gradient or jacobian)
    assert graph.levels is not None
    alive = np.flatnonzero(graph.activations >= 0).astype(np.int32)
    asked = [form, batch_form]
    plans = _plans(graph, alive, native, asked, small)
    limits = (STRAIGHT if assembles else STRAIGHT_BY_LLVM, STRAIGHT_BATCH)
    n_edges = len(next(iter(plans.values())).edges)
    # Of straight code, all that becomes ops.
    length = n_edges + len(alive) + len(graph.results)
    costs = _costs(plans, native)
    if small and native == 1 and form == "auto":
        chosen, looped = _fewest(plans, batch_form, length <= STRAIGHT_BY_LLVM, balanced)
    else:
        chosen, looped = _fastest(plans, costs, asked, limits, length, small)
    if native == 1 and asked[1] == "auto":  # a batch calls the function of one sample
        chosen[1] = chosen[0]
    if set(chosen) == {"straight"} and "table" in plans:
        looped = "table"

    def schedule(k: int) -> Schedule:
        if asked[k] != "auto":
            option = ("form", "batch_form")[k]
            return Schedule(chosen[k], "timed here" if option in timed else "asked for")
        if small and native == 1 and form == "auto":
            return Schedule(chosen[k], _bytes(plans, chosen[k]))
        return Schedule(chosen[k], _cycles({f: cost[k] for f, cost in costs.items()}, chosen[k]))

    limits = (0, 0) if small else (STRAIGHT_BACKWARD, STRAIGHT_BACKWARD_BATCH)
    length += len(graph.inputs)
    backward, backward_batch = (_choose(backward_form, length, limit, looped) if gradient else None
                                for limit in limits)
    of_jacobian = (_choose(backward_form, length, 0 if small else STRAIGHT_JACOBIAN, looped)
                   if jacobian else None)
    of_each = _choose(batch_form, length, STRAIGHT_BATCH, looped) if each else None
    wanted = _wanted(graph, embedded, forwards, each)
    return _packed(plans[looped].with_(single=schedule(0), batch=schedule(1), backward=backward,
                                       backward_batch=backward_batch, each=of_each,
                                       jacobian=of_jacobian,
                                       functions=wanted))


def _wanted(graph: Graph, embedded: bool, forwards: bool, each: bool) -> tuple[Wanted, ...]:
    """The functions that a plan wants before any pass adds those of gradients."""
    names: tuple[str, ...] = () if embedded else ("pack",)
    if forwards:
        names += (*FORWARD[1:],) if len(graph.states) else ("forward", "forward_batch")
    names += ("each",) * each
    return tuple([Wanted(name) for name in names])


def _sound(graph: Graph, forms: tuple[str, str, str], gradient: bool) -> None:
    """NccError E602 where forms are not known or do not go together, E160 where a net with states
    is asked for gradients."""
    if gradient:
        refuse_states(graph, "a gradient")
    for name in forms:
        if name not in ("auto", *FORMS):
            raise NccError("E602", f"no form {name}", help=f"one of {', '.join(FORMS)}")
    if {*forms[:2]} == {"table", "shared"}:
        raise NccError("E602", "a table's weights are packed in another order than shared ones",
                       help="the same form for both functions, or one of them straight")


def _plans(graph: Graph, alive: Ints, native: int, asked: Sequence[str], small: bool
           ) -> dict[str, Plan]:
    """The looped forms that are worth a thought, each with its plan."""
    first = csr.representatives(graph.starts, graph.sources, alive, graph.activations,
                                graph.aggregations)
    shares = bool((first != np.arange(len(alive))).any())
    plans = {}
    if "shared" not in asked:
        plans["table"] = _plan(graph, alive, first, native, False)
    if "shared" in asked or (shares and "table" not in asked):
        plans["shared"] = _plan(graph, alive, first, native, True)
        if "table" in plans and not (
                size(plans["shared"], "shared") < LARGER * size(plans["table"], "table")
                if small and native == 1 else _short(plans["shared"])):
            del plans["shared"]
    return plans


def _cycles(costs: dict[str, float], chosen: str) -> str:
    """Why this form is chosen where time decides."""
    others = [f"{f} {cost:.0f}" for f, cost in costs.items() if f != chosen]
    return f"{costs[chosen]:.0f} cycles a sample predicted, {', '.join(others)}"


def _bytes(plans: dict[str, Plan], chosen: str) -> str:
    """Why this form is chosen where bytes decide."""
    sizes = {f: size(plans.get(f, next(iter(plans.values()))), f) for f in (*plans, "straight")}
    others = [f"{f} {n:.0f}" for f, n in sizes.items() if f != chosen]
    return f"{sizes[chosen]:.0f} bytes predicted, {', '.join(others)}"


def _costs(plans: dict[str, Plan], native: int) -> dict[str, Prediction]:
    """What each form costs, straight code, which is that of any plan, among them."""
    any_plan = next(iter(plans.values()))
    return {**{name: predict(plan, name, native=native) for name, plan in plans.items()},
            "straight": predict(any_plan, "straight", native=native)}


def _fastest(plans: dict[str, Plan], costs: dict[str, Prediction], asked: Sequence[str],
             limits: Sequence[int], length: int, small: bool) -> tuple[list[str], str]:
    """The forms of the two functions, and the looped one of the plan that both go by."""
    n_edges = len(next(iter(plans.values())).edges)
    best: tuple[float, list[str], str] | None = None
    for looped in plans:
        chosen = []
        for k, (name, limit) in enumerate(zip(asked, limits, strict=True)):
            if small:
                faster = size(plans[looped], "straight") <= size(plans[looped], looped)
            else:
                faster = length <= min(limit, FEW + PER_EDGE * n_edges) and (
                    costs["straight"][k] * (1 + length / WORTH) <= EVEN * costs[looped][k])
            chosen.append(name if name != "auto" else "straight" if faster else looped)
        total = sum([costs[f][k] / max(costs["straight"][k], 1.0) for k, f in enumerate(chosen)])
        if best is None or total < 0.97 * best[0]:  # a table, unless sharing is worth it
            best = total, chosen, looped
    assert best is not None
    return best[1:]


def _fewest(plans: dict[str, Plan], batch_form: str, short: bool, balanced: bool
            ) -> tuple[list[str], str]:
    """The form of the fewest bytes, and the looped one of the plan that it goes by; where it is
    `balanced` of those that are not slower by more than SLOWER than the fastest, straight code
    among them only if it is `short`."""
    choices = [(size(plan, form), in_order(plan, form), form, looped)
               for looped, plan in plans.items() for form in (looped, "straight")]
    least = min(choices)
    if balanced:
        choices = [c for c in choices if short or c[2] != "straight" or c == least]
        fastest = min([cycles for _, cycles, _, _ in choices])
        least = min([c for c in choices if c[1] <= SLOWER * fastest])
    return [least[2], batch_form], least[3]


def _short(plan: Plan) -> bool:
    """Whether the code of shared rows is short for a net of so many edges."""
    return tiles(plan) <= KINDS + len(plan.edges) // PER_KIND


def _plan(graph: Graph, alive: Ints, first: Longs, native: int, share: bool) -> Plan:
    """The rows in order, in runs, segments and blocks; no form is chosen yet."""
    assert graph.levels is not None
    fan_in = np.diff(graph.starts)
    size, side, block = _blocks(first, native if native > 1 else SCALARS, native, share)
    order = evaluation_order(graph, alive, first)
    rows, size, side, block = alive[order], size[order], side[order], block[order]
    lengths = fan_in[rows]
    starts = csr.starts(lengths)
    edges = np.arange(starts[-1], dtype=np.int32)
    for part in csr.parts(lengths):
        shift = graph.starts[:-1][rows[part]] - starts[part]
        edges[starts[part.start] : starts[part.stop]] += np.repeat(
            shift.astype(np.int32), lengths[part])

    act, agg, level = graph.activations[rows], graph.aggregations[rows], graph.levels[rows]
    blocks = csr.borders(block)
    begins = blocks[:-1]
    alike = (act[begins], agg[begins], level[begins], lengths[begins], size[begins],
             side[begins])
    bounds = csr.borders(*alike)
    at = begins[bounds[:-1]]
    segments = tuple([Segment(first, last, *kind) for (first, last), *kind in zip(
        pairwise(bounds.tolist()), size[at].tolist(), lengths[at].tolist(), side[at].tolist(),
        strict=True)])
    has_bias = graph.biases[rows] != NONE
    biased = set(agg[has_bias].tolist())
    bounds = csr.borders(act, agg)
    at = bounds[:-1]
    runs = tuple([Run(first, last, a, g, g in biased) for (first, last), a, g in zip(
        pairwise(bounds.tolist()), act[at].tolist(), agg[at].tolist(), strict=True)])
    none = Schedule("straight", "")
    return Plan(graph, rows, starts, edges, runs, blocks, segments, np.zeros(0, np.int32),
                np.zeros(0, np.int64), np.zeros(0, np.int64), none, none)


def _blocks(first: Longs, widest: int, native: int, share: bool) -> tuple[Longs, Longs, Longs]:
    """The room of each row's block, how many blocks stand side by side, and a number for the
    block: blocks ascend by their groups' first rows. A group's last block has room for a vector
    or, where half of one is enough, for a power of two; then it stands alone."""
    n = len(first)
    if not share:
        return np.ones(n, np.int64), np.ones(n, np.int64), np.arange(n)
    order = np.argsort(first, kind="stable")
    counts = np.bincount(first, minlength=n)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - (np.cumsum(counts) - counts)[first[order]]
    at = rank // widest
    left = counts[first] - at * widest
    power = 1 << np.ceil(np.log2(np.maximum(left, 1))).astype(np.int64)
    size = np.where(2 * left <= native, power, widest if native > 1 else np.minimum(left, widest))
    full = counts[first] // widest  # blocks that may stand side by side
    full += 2 * (counts[first] % widest) > native if native > 1 else 0
    side = np.where(at < full, np.minimum(SIDE, full - at // SIDE * SIDE), 1)
    return size, side, first * (n // widest + 1) + at


def _packed(plan: Plan) -> Plan:
    """The plan with its packed layout."""
    if not plan.looped:
        return plan.with_(packed=first_uses(plan))
    layout = packed_starts(plan)
    return plan.with_(packed=packed_codes(plan, *layout), weights=layout[0], biases=layout[1])


def _choose(form: str, length: int, limit: int, looped: str) -> Schedule:
    if form != "auto":
        return Schedule(form, "asked for")
    what = f"{length} edges, rows, inputs and outputs"
    if length <= limit:
        return Schedule("straight", f"{what}, at most {limit}")
    return Schedule(looped, f"{what}, more than {limit}")
