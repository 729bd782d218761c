"""Nets of FANN as its text, versions 2.0 and 2.1: layered, sparse, shortcut, and cascade-trained.

`fann_run` of libfann 2.2 adds the connections of a neuron in an order of its own: of k connections
the first k mod 4, the last of these first, from 0; then groups of four, each added up by itself.
Then steepness times the sum is held within 150/steepness, and the function follows. Neurons without
connections are the constant 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise
from math import isfinite
from typing import Final, NamedTuple

from ncc.formats.importers.builder import BARE, Bias, Builder, Constant, Number
from ncc.formats.importers.fann_functions import RATIONAL, STEPWISE, formula
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options
from ncc.formats.importers.words import DECIMAL, Word, declared, words

NEURONS: Final = "neurons (num_inputs, activation_function, activation_steepness)"
EDGES: Final = "connections (connected_to_neuron, weight)"
SCALES: Final = ("scale_mean", "scale_deviation", "scale_new_min", "scale_factor")
TRIPLE: Final = re.compile(rf"\(([0-9]{{1,10}}), ([0-9]{{1,10}}), ({DECIMAL.pattern})\) *")
PAIR: Final = re.compile(rf"\(([0-9]{{1,10}}), ({DECIMAL.pattern})\) *")
COMMA: Final = "a comma where the decimal point is to be: written under another locale"


Key = int | tuple[int, str]  # a neuron of FANN's, or the sum before a stepwise function of it


class Node(NamedTuple):
    """A neuron: the number of its function, its steepness, its connections (source, weight)."""

    function: int
    steepness: float
    reads: list[tuple[int, float]]


class Net(NamedTuple):
    """What a file says. Neurons are counted as it counts them, biases among them; `scaling` has the
    formula of each input and output, None where a deviation of 0 leaves it alone."""

    inputs: int
    outputs: range
    biases: frozenset[int]
    nodes: list[Node]
    scaling: tuple[list[str | None], list[str | None]] | None


class _Lines:
    """The `key=value` lines of a file by their keys."""

    def __init__(self, file: Foreign) -> None:
        self.file = file
        self.found: dict[str, Word] = {}
        for number, line in enumerate(file.text.split("\n")[1:], 2):
            line = line.removesuffix("\r")
            key, equals, value = line.partition("=")
            if not line.strip():
                continue
            if not equals:
                raise file.fault("E801", "this is no key=value", line=number)
            if key in self.found:
                raise file.fault("E801", f"a second line {key[:40]}", line=number)
            self.found[key] = Word(value, file, number, len(key) + 2)

    def word(self, key: str) -> Word:
        if key not in self.found:
            raise self.file.fault("E801", f"the line {key}= is missing")
        return self.found[key]._replace(text=self.found[key].text.strip())

    def words(self, key: str) -> list[Word]:
        whole = self.word(key)
        return [each._replace(column=whole.column + each.column - 1)
                for each in words(self.file, whole.line, whole.text)]

    def tuples(self, key: str, shape: re.Pattern[str], count: int, what: str
               ) -> Iterator[tuple[re.Match[str], Word]]:
        """Each tuple of a line, and the line. NccErrors E801, E816 for another number of them."""
        whole = self.word(key)
        at = met = 0
        while at < len(whole.text):
            found = shape.match(whole.text, at)
            if found is None:
                here = whole._replace(column=whole.column + at, text=whole.text[at:at + 60])
                comma = re.match(r"\([0-9]+(?:, [0-9]+)?, [-0-9]+,[0-9]", here.text)
                raise here.fault("E801", COMMA if comma else f"no {what} can be read here")
            met, at = met + 1, found.end()
            if met <= count:
                yield found, whole
        if met != count:
            raise whole._replace(text="").fault(
                "E816", f"{met} of {what}, where the lines above make it {count}")


def _at(found: tuple[re.Match[str], Word], group: int = 0) -> Word:
    """Where a tuple is, or one of its values."""
    match, line = found
    return line._replace(column=line.column + match.start(group), text=match[group].strip())


def recognises(file: Foreign) -> bool:
    return file.data[:5] == b"FANN_"


def read(files: list[Foreign], options: Options) -> Imported:
    """The net: class A where its functions are rational, else B; C with `simple`."""
    (file,) = files
    file = file.as_text()
    net = _parsed(file)
    builder = Builder(file, options)
    notes = []
    for key in range(net.inputs):
        builder.input(("input", key) if options.scaling else key, str(key))
    if net.scaling is None and options.scaling:
        raise file.fault("E813", "the file has no scaling (scale_included=0)")
    if net.scaling is not None and not options.scaling:
        notes.append("the file has scaling, which fann_run does not apply: --scaling does")
    scales, descales = net.scaling if net.scaling is not None and options.scaling else ([], [])
    for key, scale in enumerate(scales):
        builder.neuron(key, [(("input", key), Constant(1.0))], scale or "identity")
    used = _built(net, builder, options.simple)
    outputs: list[object] = list(net.outputs)
    for k, scale in enumerate(descales):
        builder.neuron(("output", k), [(outputs[k], Constant(1.0))], scale or "identity")
        outputs[k] = ("output", k)
    exactness = "C" if options.simple else "A" if used <= RATIONAL else "B"
    return builder.made(outputs, exactness=exactness, importer="fann", notes=notes,
                        numerics="strict", dtype="f32")


def _parsed(file: Foreign) -> Net:
    """The file, checked. NccErrors E801, E802, E811 to E813, E816, E817, E819."""
    version = file.text.split("\n", 1)[0].strip()
    if version.startswith("FANN_FIX"):
        raise file.fault("E817", f"{version}: a net of integers", line=1,
                         help="save the net by libfloatfann or libdoublefann")
    if version not in ("FANN_FLO_2.0", "FANN_FLO_2.1"):
        raise file.fault("E802", f"{version[:40]}: known are FANN_FLO_2.0 and FANN_FLO_2.1", line=1,
                         help="load the net by libfann 2 and save it again")
    found = _Lines(file)
    shortcut = found.word("network_type").natural("0 (layered) or 1 (shortcut)", 1) == 1
    layers = found.word("num_layers").natural("a number of layers")
    sizes = [word.natural("the size of a layer") for word in found.words("layer_sizes")]
    if layers != len(sizes):
        raise found.word("layer_sizes").fault("E816", f"{len(sizes)} sizes of {layers} layers")
    if layers < 2 or 0 in sizes:
        raise found.word("layer_sizes").fault("E801", "two layers or more are wanted, none empty")
    total = sum(sizes)
    declared(file, total, "neurons", found.word("layer_sizes"))
    starts = list(accumulate(sizes, initial=0))
    nodes: list[Node] = []
    places = []
    for place in found.tuples(NEURONS, TRIPLE, total, "neurons"):
        nodes.append(Node(int(place[0][2]), _at(place, 3).real("a steepness"), []))
        places.append((int(place[0][1]), place))
    wanted = sum(count for count, _ in places)
    edges = found.tuples(EDGES, PAIR, wanted, "connections")
    for j, (count, place) in enumerate(places):
        if count and j < sizes[0]:
            raise _at(place).fault("E801", f"neuron {j}, an input, has connections")
        reads = nodes[j].reads
        for edge in islice(edges, count):
            source = int(edge[0][1])
            if source >= j:
                raise _at(edge).fault("E812", f"neuron {j} reads {source}, which is not yet "
                                              "computed: it would be its value of the run before")
            weight = float(edge[0][2])
            reads.append((source, weight if isfinite(weight) else _at(edge, 2).real("a weight")))
        if count:
            formula(nodes[j].function, nodes[j].steepness, _at(place))
    for _ in edges:  # to the end, where their number is looked at
        pass
    if found.word("connection_rate").real("a rate") >= 1:
        _implied(nodes, starts, shortcut, places)
    last = range(starts[-2], starts[-1] - int(not shortcut))
    if not last:
        raise found.word("layer_sizes").fault("E801", "an output layer of a bias alone")
    biases = frozenset([starts[1] - 1] if shortcut else [end - 1 for end in starts[1:]])
    return Net(sizes[0] - 1, last, frozenset(j for j in biases if not nodes[j].reads), nodes,
               _scaling(found, sizes[0] - 1, len(last)))


def _implied(nodes: Sequence[Node], starts: Sequence[int], shortcut: bool,
             places: Sequence[tuple[int, tuple[re.Match[str], Word]]]) -> None:
    """Whether sources are those that fann_run takes, which at a rate of 1 does not look at them:
    the first k of the layer before, or of the whole net. NccError E801."""
    for before, (first, end) in zip(starts, pairwise(starts[1:]), strict=False):
        base = 0 if shortcut else before
        for j in range(first, end):
            for k, (source, _) in enumerate(nodes[j].reads):
                if source != base + k:
                    raise _at(places[j][1]).fault(
                        "E801", f"connection {k} of neuron {j} is from {source}, but at "
                                f"connection_rate 1 libfann takes it from {base + k}")


def _scaling(found: _Lines, inputs: int, outputs: int
             ) -> tuple[list[str | None], list[str | None]] | None:
    """What fann_scale_input and fann_descale_output compute, of the old minimum -1."""
    if "scale_included" not in found.found or found.word("scale_included").natural("0 or 1") != 1:
        return None
    made = []
    for side, count in ("in", inputs), ("out", outputs):
        columns = []
        for key in SCALES:
            column = [word.real("a scale") for word in found.words(f"{key}_{side}")]
            if len(column) != count:
                raise found.word(f"{key}_{side}").fault(
                    "E816", f"{len(column)} values of {count} {side}puts")
            columns.append(column)
        place = found.word(f"scale_factor_{side}")
        made.append([_affine(side == "in", mean, spread, least, factor, place)
                     for mean, spread, least, factor in zip(*columns, strict=True)])
    return made[0], made[1]


def _affine(into: bool, mean: float, spread: float, least: float, factor: float, place: Word
            ) -> str | None:
    """The formula of one input or output; None where the deviation is 0, which FANN skips."""
    if spread == 0:
        return None
    if into:
        return f"((x-{_n(mean)})/{_n(spread)}+1)*{_n(factor)}+{_n(least)}"
    if factor == 0:
        raise place.fault("E813", "a factor of 0, by which outputs are divided")
    return f"((x-{_n(least)})/{_n(factor)}-1)*{_n(spread)}+{_n(mean)}"


def _n(value: float) -> str:
    return f"({value!r})" if value < 0 else repr(value)


def _built(net: Net, builder: Builder, simple: bool) -> set[int]:
    """Neurons for the nodes behind the inputs; the functions that they have."""
    ones = {j for j, node in enumerate(net.nodes) if j >= net.inputs and not node.reads}
    used = set()
    maker = _Sums(builder, ones, net.biases)
    for j in net.outputs:
        if j in ones:
            maker.one(j)
    for j, node in enumerate(net.nodes):
        if not node.reads:
            continue
        used.add(node.function)
        made, second = formula(node.function, node.steepness), STEPWISE.get(node.function)
        key: Key = j if second is None else (j, "sum")
        (maker.plain if simple else maker.by_fours)(key, node.reads, made)
        if second is not None:
            builder.neuron(j, [(key, Constant(1.0))], second, label=str(j))
    return used


class _Sums:
    """Makes neurons that add up as FANN does, or in plain order. A constant 1 that comes first in a
    sum is the bias from which it starts, one that comes last the bias that it adds last; elsewhere
    it is a neuron."""

    def __init__(self, builder: Builder, ones: set[int], biases: frozenset[int]) -> None:
        self.builder, self.ones, self.biases = builder, ones, biases

    def one(self, key: int) -> int:
        if key not in self.builder:
            self.builder.constant(key, 1.0, str(key))
        return key

    def plain(self, key: Key, reads: Sequence[tuple[int, float]], function: str) -> None:
        bias = [weight for source, weight in reads if source in self.biases][:1]
        edges = [(self.one(source) if source in self.ones else source, weight)
                 for source, weight in reads if not bias or source not in self.biases]
        self.builder.neuron(key, edges, function, bias=bias[0] if bias else BARE,
                            label=_label(key))

    def by_fours(self, key: Key, reads: Sequence[tuple[int, float]], function: str) -> None:
        rest = len(reads) % 4
        fours = [list(reads[at:at + 4]) for at in range(rest, len(reads), 4)]
        terms: list[tuple[object, Number]] = [*reads[:rest][::-1]] or [*fours.pop(0)]
        for k, four in enumerate(fours):
            self.sum((key, k), four, "identity", False)
            terms.append(((key, k), Constant(1.0)))
        self.sum(key, terms, function, True)

    def sum(self, key: object, terms: Sequence[tuple[object, Number]], function: str,
            from_zero: bool) -> None:
        """A neuron of these terms in this order; one of the sums that start from 0 or not."""
        how, edges = "sum", list(terms)
        bias: Bias = Constant(0.0) if from_zero else BARE
        if edges[0][0] in self.ones:
            bias = edges.pop(0)[1]
        elif edges[-1][0] in self.ones:
            how, bias = "sumbias", edges.pop()[1]
        edges = [(self.one(source) if isinstance(source, int) and source in self.ones else source,
                  weight) for source, weight in edges]
        self.builder.neuron(key, edges, function, aggregation=how,
                            bias=bias, label=_label(key))


def _label(key: object) -> str | None:
    """The number that FANN has for a neuron; sums of which it has none have no name."""
    return str(key) if isinstance(key, int) else None


IMPORTER = Importer("fann", "a net of FANN's", (".net",), recognises, read, ("scaling", "simple"))
