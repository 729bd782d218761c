"""Networks of neat-python, from whatever file or object: what a node is, and as which neurons.

A node is activation(bias + response * aggregation(value * weight, ...)), each operation rounded,
the products in the order of its connections. So a response of 1 makes one neuron of it, whose bias
is added last (`sumbias`), and another one makes two, the second of which reads the aggregate by a
weight that is the response. `Options.simple` makes one of each: the response goes into the
weights, and the sum starts from the bias, as ncc's do.

A recurrent network reads the values of the step before, its inputs as they are now. A CTRNN does
so, too, and goes on from the value y of two steps before, as neat-python's two buffers take turns:

    y(t) = y(t-2) + step / time_constant * (-y(t-2) + node(t))     outputs are y(t-1)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from math import frexp, inf
from typing import Final, NamedTuple

from ncc.errors import NccError
from ncc.formats.importers.builder import Builder, Constant, Late, Number
from ncc.formats.importers.foreign import Foreign, Imported, Options
from ncc.formats.importers.neat_functions import EXACT, formula

MOST: Final = 16  # connections of a median
SHOWN: Final = 12  # nodes of a cycle that a message names
LARGEST_KEY: Final = 2**53  # hashes of larger integers collide by design of a hostile file
# The empty product is 1, what else is empty 0.
EMPTY: Final = {"mul": 1.0}

Key = int | tuple[int, str]  # of a node, or of a neuron that helps it
Edges = list[tuple[object, Number]]


class Function(NamedTuple):
    """An activation: an expression in x, or the name of one of ncc's; whether it gives the bits of
    the source."""

    text: str
    exact: bool = False


def step_of(file: Foreign, options: Options, ctrnn: bool, at: str = "") -> float | None:
    """The time step that a network, if it is a CTRNN, is imported for. NccErrors E812 without one,
    E609 where it is none, or for another network."""
    if not ctrnn:
        if options.time_step is not None:
            raise NccError("E609", "--time-step is for a CTRNN")
        return None
    if options.time_step is None:
        raise file.fault("E812", "a CTRNN goes on by any time that its caller says", at,
                         help="--time-step DT imports it as a net whose call is advance(x, DT, DT)")
    if not 0 < options.time_step < inf:
        raise NccError("E609", f"--time-step {options.time_step}: it is positive and finite")
    return float(options.time_step)


def time_constant(file: Foreign, value: float, at: str) -> float:
    if value <= 0:
        raise file.fault("E801", f"the time constant {value:g}, which is to be positive", at)
    return value


def own(name: str) -> Function:
    """An activation of neat-python's own."""
    return Function(formula(name), name in EXACT)


class Node(NamedTuple):
    """A node of the source.

    aggregation  one of ncc's, or `median`
    edges        (key of the source, weight), in their order
    at           its place in the source, for faults
    time_constant  of a CTRNN
    """

    activation: Function
    aggregation: str
    bias: float
    response: float
    edges: list[tuple[int, float]]
    at: str = ""
    time_constant: float = 1.0


class Network(NamedTuple):
    """Nodes by their keys, which are no inputs. Outputs, and all that nodes read, are inputs or
    nodes; where the network is `recurrent`, what is neither is 0. It is a CTRNN where `step` is its
    step of time."""

    inputs: Sequence[int]
    outputs: Sequence[int]
    nodes: Mapping[int, Node]
    notes: Sequence[str] = ()
    recurrent: bool = False
    step: float | None = None


def built(file: Foreign, options: Options, net: Network, *, importer: str = "neat",
          exactness: str | None = None, dtype: str = "f64", numerics: str | None = "strict"
          ) -> Imported:
    """The net. NccError E812 for a cycle, E819 for a median of too many connections."""
    if not net.recurrent:
        refuse_cycle(file, net)
    builder = Builder(file, options)
    for key in net.inputs:
        builder.input(key, str(key))
    for key, node in net.nodes.items():
        if net.step is None:
            _add(builder, key, key, node, net.nodes if net.recurrent else ())
        else:
            _integrate(builder, key, node, net)
    if net.recurrent:
        read = [key for node in net.nodes.values() for key, _ in node.edges]
        for key in dict.fromkeys([*net.outputs, *read]):
            if key not in builder:
                builder.constant(key, 0.0, str(key))
    if exactness is None:
        exact = all(node.activation.exact for node in net.nodes.values())
        exactness = "C" if options.simple or not _power_of_two(net.step) else "A" if exact else "B"
    outputs = net.outputs if net.step is None else [
        (key, "before") if key in net.nodes else key for key in net.outputs]
    return builder.made(outputs, exactness=exactness, importer=importer, notes=net.notes,
                        numerics=numerics, dtype=dtype)


def refuse_cycle(file: Foreign, net: Network) -> None:
    """NccError E812 for a cycle, in the keys of the source."""
    ring = cycle_of(net.nodes, lambda key: [i for i, _ in net.nodes[key].edges if i in net.nodes])
    if ring:
        raise file.fault("E812", f"a cycle: {ring_text(ring)}", net.nodes[min(ring)].at,
                         note="the tool never evaluates its nodes in a feed-forward net")


def _power_of_two(step: float | None) -> bool:
    """Whether neat-python's clock, which adds up steps, is exact."""
    return step is None or frexp(step)[0] == 0.5


def _integrate(builder: Builder, key: int, node: Node, net: Network) -> None:
    """The neurons of a node of a CTRNN; the one with its key is y(t)."""
    assert net.step is not None
    before, drive, change = (key, "before"), (key, "drive"), (key, "change")
    _add(builder, drive, key, node, net.nodes)
    builder.neuron(before, [(Late(key), Constant(1.0))])
    builder.neuron(change, [(Late(before), Constant(-1.0)), (drive, Constant(1.0))])
    builder.neuron(key, [(Late(before), Constant(1.0)),
                         (change, Constant(net.step / node.time_constant))], label=str(key))


def _add(builder: Builder, name: Key, key: int, node: Node, late: Container[int]) -> None:
    """The neurons of a node; the one called `name` has its value. Nodes of `late` are read late."""
    label = str(key) if name == key else None
    aggregation, response = node.aggregation, node.response
    if not node.edges:
        builder.neuron(name, [], node.activation.text, label=label,
                       bias=node.bias + response * EMPTY.get(aggregation, 0.0))
        return
    weighted = node.edges
    if builder.options.simple and response != 1.0:
        weighted, aggregation = _scaled(node)
        response = 1.0
    edges: Edges = [(Late(i) if i in late else i, weight) for i, weight in weighted]
    if aggregation == "median":
        if len(edges) > MOST:
            raise builder.file.fault("E819", f"a median of {len(edges)} connections; {MOST} are "
                                             "the most", node.at)
        edges, aggregation = _median(builder, key, edges)
    if response != 1.0:
        if len(edges) == 1 and isinstance(edges[0][1], Constant):  # a median, as it is
            edges = [(edges[0][0], response)]
        else:
            builder.neuron((key, "aggregate"), edges, aggregation=aggregation)
            edges, aggregation = [((key, "aggregate"), response)], "sum"
    if aggregation == "sum" and len(edges) > 1 and not builder.options.simple:
        aggregation = "sumbias"
    builder.neuron(name, edges, node.activation.text, aggregation=aggregation, bias=node.bias,
                   label=label)


def _scaled(node: Node) -> tuple[list[tuple[int, float]], str]:
    """In-list and aggregation times the response, as real numbers are."""
    turned = {"max": "min", "min": "max"}
    first = node.aggregation == "mul"  # of a product, one factor
    edges = [(key, weight * node.response if k == 0 or not first else weight)
             for k, (key, weight) in enumerate(node.edges)]
    return edges, (turned if node.response < 0 else {}).get(node.aggregation, node.aggregation)


def _median(builder: Builder, key: int, edges: Edges) -> tuple[Edges, str]:
    """What has the median of `edges` as its aggregate: the middle one of them as a network of
    minima and maxima sorts them, or the mean of the two."""
    count = len(edges)
    if count <= 2:
        return edges, "sum" if count == 1 else "mean"
    middle = [count // 2] if count % 2 else [count // 2 - 1, count // 2]
    lines: list[Key] = [(key, f"product {k}") for k in range(count)]
    for line, edge in zip(lines, edges, strict=True):
        builder.neuron(line, [edge])
    for step, (i, j, low, high) in enumerate(selection(count, middle)):
        pair = [(lines[i], Constant(1.0)), (lines[j], Constant(1.0))]
        for line, wanted, word in ((i, low, "min"), (j, high, "max")):
            if wanted:
                lines[line] = (key, f"{word} {step}")
                builder.neuron(lines[line], pair, aggregation=word)
    return [(lines[i], Constant(1.0)) for i in middle], "sum" if count % 2 else "mean"


def selection(count: int, wanted: Iterable[int]) -> list[tuple[int, int, bool, bool]]:
    """Comparators (i, j, whether line i is needed behind it, whether line j is) that bring those
    elements of `count` sorted ones that are `wanted` to the lines of their ranks."""
    needed, kept = set(wanted), []
    for i, j in reversed(list(_merge_exchange(count))):
        if i in needed or j in needed:
            kept.append((i, j, i in needed, j in needed))
            needed |= {i, j}
    return kept[::-1]


def _merge_exchange(count: int) -> Iterator[tuple[int, int]]:
    """Comparators (i, j), i < j, that sort `count` lines: Batcher's, as Knuth has them, The Art of
    Computer Programming 5.2.2, algorithm M."""
    top = p = 1 << (count - 1).bit_length() - 1
    while p:
        q, r, d = top, 0, p
        while True:
            yield from ((i, i + d) for i in range(count - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1


def cycle_of(begins: Iterable[int], reads: Callable[[int], Sequence[int]]) -> list[int]:
    """Nodes each of which reads the next one, and the last one the first: a cycle that can be
    reached from one of `begins`; [] where there is none. `reads` are the sources of a node."""
    done: set[int] = set()
    for begin in begins:
        if begin in done:
            continue
        stack, left = [begin], [iter(reads(begin))]
        on_stack = {begin}
        while stack:
            source = next(left[-1], None)
            if source is None:
                key = stack.pop()
                left.pop()
                on_stack.discard(key)
                done.add(key)
            elif source in on_stack:
                return stack[stack.index(source):]
            elif source not in done:
                stack.append(source)
                left.append(iter(reads(source)))
                on_stack.add(source)
    return []


def ring_text(nodes: list[int]) -> str:
    """A cycle of `cycle_of` along its edges, the smallest key first."""
    turn = nodes.index(min(nodes))
    along = [*nodes[turn::-1], *nodes[:turn:-1]]
    shown = [str(key) for key in [*along, along[0]]]
    if len(shown) > SHOWN:
        shown = [*shown[: SHOWN - 2], "...", *shown[-2:]]
    return " -> ".join(shown)
