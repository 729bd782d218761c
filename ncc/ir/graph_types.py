"""What a graph is made of: arrays, and the codes in them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir import csr
from ncc.ir.csr import Ints as Ints
from ncc.ir.csr import Longs as Longs
from ncc.ir.labels import Label as Label
from ncc.scalar.aggregations import PAIRS, PLAIN_SUMS, SUMS

Reals = NDArray[np.float64]

NONE = -(2**31)  # no bias
INPUT = -1  # the activation code of an input
ABSENT = -2  # the activation code of a neuron that a pass has removed
AGGREGATIONS = ("sum", "mul", "mean", "max", "min", "maxabs", "sumbias", "maximum", "minimum",
                "dot", "div")
PAIR_CODES = [AGGREGATIONS.index(name) for name in PAIRS]
PLAIN_SUM_CODES = [AGGREGATIONS.index(name) for name in PLAIN_SUMS]
SUM_CODES = [AGGREGATIONS.index(name) for name in SUMS]
NUMERICS = ("strict", "fused", "fast")


@dataclass(frozen=True, eq=False)
class Arrays:
    """A net of N neurons, E edges, P parameter slots and C constants.

    A *parameter code* (of an edge or a bias) is a slot s >= 0 of the canonical parameter vector,
    or -1-c for entry c of `constants`, or NONE (biases only).

    starts       int64 (N+1)  in-list of neuron j is starts[j] .. starts[j+1]
    sources      int32 (E)    the neuron each edge comes from
    weights      int32 (E)    parameter codes
    biases       int32 (N)    parameter codes
    activations  int32 (N)    activation codes; INPUT, ABSENT
    aggregations int8 (N)     indices into AGGREGATIONS; the in-list of a `dot` is pairs of edges,
                              in each first one with the weight, then one of constant weight 1
    inputs       int32        ascending
    outputs      int32        in the order the caller sees; may repeat after `merge`
    values       float64 (P)  the file's parameter values, NaN where it gives none
    constants    float64 (C)
    names        slot -> tie name, for the slots that have one
    functions    code -> the text of an expression in x, for codes the file defines, ascending
    levels       int32 (N)    longest path from a source; None before `order`
    shows_inputs whether texts of formulas print inputs (`.nam`)
    labels       names of neurons and of arrays of neurons, in the file's order
    numerics     what the file asks for, of NUMERICS; None where it does not say
    dtype        "f32" or "f64", what the file asks for; None where it does not say
    states       int32 (S)    the last S inputs are *state neurons*, whose value is that of a neuron
                              in the last call (0 after a reset): which neuron, of each
    """

    starts: Longs
    sources: Ints
    weights: Ints
    biases: Ints
    activations: Ints
    aggregations: NDArray[np.int8]
    inputs: Ints
    outputs: Ints
    values: Reals
    constants: Reals
    names: dict[int, str] = field(default_factory=dict)
    functions: dict[int, str] = field(default_factory=dict)
    levels: Ints | None = None
    shows_inputs: bool = False
    labels: tuple[Label, ...] = ()
    numerics: str | None = None
    dtype: str | None = None
    states: Ints = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def n_neurons(self) -> int:
        return len(self.starts) - 1

    @property
    def n_edges(self) -> int:
        return len(self.sources)

    @property
    def n_params(self) -> int:
        return len(self.values)

    @property
    def n_inputs(self) -> int:
        """The inputs that are the caller's: x has so many."""
        return len(self.inputs) - len(self.states)

    @property
    def n_own(self) -> int:
        """The net's own neurons, as its file counts them: those before the state neurons."""
        return int(self.inputs[self.n_inputs]) if len(self.states) else self.n_neurons

    @property
    def read_neurons(self) -> Ints:
        """The net's own neuron that each edge reads (E), now or in the last call."""
        if not len(self.states):
            return self.sources
        own = np.arange(self.n_neurons, dtype=np.int32)
        own[self.inputs[self.n_inputs :]] = self.states
        return own[self.sources]

    def seconds(self) -> NDArray[np.bool_]:
        """Whether each edge (E) is the second one of a pair of a `dot`."""
        return seconds(self.starts, self.aggregations)

    @property
    def results(self) -> Ints:
        """What a call leaves behind: the outputs, then the next value of each state neuron."""
        return np.concatenate([self.outputs, self.states]) if len(self.states) else self.outputs


def seconds(starts: Longs, aggregations: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether each edge of in-lists `starts` (N+1) of these aggregations (N) is the second one of a
    pair: (E,). Takes no memory where there are no pairs."""
    paired = np.isin(aggregations, PAIR_CODES)
    if not paired.any():
        return np.broadcast_to(np.False_, int(starts[-1]))
    lengths = np.diff(starts)
    made: NDArray[np.bool_] = np.repeat(paired, lengths) & (csr.within(lengths) % 2 == 1)
    return made


def refuse_states(graph: Arrays, what: str) -> None:
    """NccError E160 where a net has states, of which `what` is asked that wants none."""
    if len(graph.states):
        raise NccError("E160", f"{what} of a net with state: its neurons read values of the call "
                       "before", help="--unroll T makes a net of T steps of it; in Python, "
                       "ncc.unroll(net, steps)")

def settled(starts: Longs, codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """The aggregations (N) of neurons whose in-lists `starts` (N+1) cut: a bias without edges is a
    sum, whether it would be added first or last, so that loops may count on a first edge."""
    alone = (codes == AGGREGATIONS.index("sumbias")) & (np.diff(starts) == 0)
    return np.where(alone, 0, codes).astype(np.int8) if alone.any() else codes


def distinct_constants(values: Reals) -> tuple[Reals, Ints]:
    """The different constants among `values` (n), told apart by bits, in the order in which they
    appear first; and the parameter codes (n) of all."""
    _, firsts, inverse = np.unique(values.view(np.int64), return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return values[firsts[order]], (-1 - rank[inverse]).astype(np.int32)
