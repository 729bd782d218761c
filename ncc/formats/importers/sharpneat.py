"""Nets of SharpNEAT, version 4: its `.net` text.

Sections end with an empty line: counts of inputs and outputs, `acyclic` or `cyclic N`, connections
`source target weight`, functions `id code`. Each neuron is one function, the same in the whole net,
of a sum of fused multiply-adds that starts at 0, in float64, of sources by depth and then by id.
`SharpNeat.NeuralNets.NeuralNetAcyclic` and `NeuralNetCyclic` of its revision 00290e6 compute it so,
the vectorized classes in another order.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Final, NamedTuple

from ncc.errors import NccError
from ncc.formats.importers.builder import Builder, Constant, Late, Number, Tied
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, listed
from ncc.formats.importers.words import Word, declared, depths, lines, words

SRELU: Final = ("min(max({0},0.001+(min({0},0.001)-0.001)*0.00001),"
                "0.999+(max({0},0.999)-0.999)*0.00001)")
POLYNOMIAL: Final = "(1+abs({0})+{0}^2*0.555+{0}^2*{0}^2*0.143)"
# By the names of its classes; what it selects by `if` are maxima, minima and steps here, of which
# those that are not chosen add 0 or are no greater.
FUNCTIONS: Final = {
    "ReLU": "relu",
    "LeakyReLU": "max(0.001*x,x)",
    "LeakyReLUShifted": "max(0.001*(x+0.5),x+0.5)",
    "SReLU": SRELU.format("x"),
    "SReLUShifted": SRELU.format("(x+0.5)"),
    "MaxMinusOne": "max(x,-1)",
    "SoftSignSteep": "0.5+x/(2*(0.2+abs(x)))",
    "PolynomialApproximantSteep": "1/(1+(step(x)/" + POLYNOMIAL.format("max(4.9*x,0)")
                                  + "+(1-step(x))*" + POLYNOMIAL.format("min(4.9*x,0)") + "))",
    "QuadraticSigmoid": "(0.999-(min(abs(x),0.999)-0.999)^2+(max(abs(x),0.999)-0.999)*0.00001)"
                        "*(1-2*step(-x))*0.5+0.5",
    "NullFn": "0",
    "Linear": "max(min(x,1),-1)",
    "Logistic": "1/(1+exp(-x))",
    "LogisticSteep": "1/(1+exp(-4.9*x))",
    "TanH": "tanh(x)",
    "ArcTan": "atan(x)",
    "ArcSinH": "1.2567348023993685*((log(x+sqrt(x^2+1))+1)*0.5)",
    "ScaledELU": "1.0507009873554805*(max(x,0)+(1.6732632423543772*exp(min(x,0))"
                 "-1.6732632423543772))",
    "BipolarSigmoid": "2/(1+exp(-4.9*x))-1",
    "Sine": "sin(2*x)",
    "Gaussian": "exp(-(x*2.5)^2)",
    "BipolarGaussian": "2*exp(-(x*2.5)^2)-1",
}
# Of + - * / max and min alone, so that no bit depends on a library.
RATIONAL: Final = ("ReLU", "LeakyReLU", "LeakyReLUShifted", "SReLU", "SReLUShifted", "MaxMinusOne",
                   "SoftSignSteep", "PolynomialApproximantSteep", "QuadraticSigmoid", "NullFn",
                   "Linear")


class Net(NamedTuple):
    """What a file says. `cycles` is 0 for an acyclic net; `edges` of each target, by source."""

    inputs: int
    outputs: int
    cycles: int
    edges: dict[int, dict[int, float]]
    function: str
    notes: list[str]

    @property
    def named(self) -> range:
        """The ids of the outputs."""
        return range(self.inputs, self.inputs + self.outputs)


def recognises(file: Foreign) -> bool:
    """Two integers, and then whether the net is cyclic."""
    head = file.data[:4096].removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    return re.match(rb"(?:#[^\n]*\n)*+[ \t]*[0-9]+[ \t]+[0-9]+[ \t]*\n\n(?:#[^\n]*\n)*+[ \t]*"
                    rb"a?cyclic\b", head) is not None


def read(files: list[Foreign], options: Options) -> Imported:
    """The net, class A or, where its function needs exp, sin or the like, B."""
    (file,) = files
    file = file.as_text()
    net = _parsed(file, options.state)
    builder = Builder(file, options)
    for key in range(net.inputs):
        builder.input(key, str(key))
    outputs: Sequence[Hashable] = (_steps(net, builder, options.state == "reset") if net.cycles
                                   else _acyclic(net, builder))
    return builder.made(outputs, exactness="A" if net.function in RATIONAL else "B",
                        importer="sharpneat", notes=net.notes, numerics="fused", dtype="f64")


def _parsed(file: Foreign, state: str | None) -> Net:
    """The file, checked line by line. NccErrors E801, E811, E812, E819."""
    text = (line for line in lines(file) if not line[1].startswith("#"))
    (sizes,) = _section(file, text, "two integers: how many inputs, how many outputs", 2, 1)
    inputs, outputs = sizes[0].natural("a number of inputs"), sizes[1].natural(
        "a number of outputs")
    if outputs < 1:
        raise sizes[1].fault("E801", "a net without outputs")
    declared(file, inputs + outputs, "inputs and outputs", sizes[0])
    ((kind, *rest),) = _section(file, text, "acyclic, or cyclic and a number of steps", 0, 1)
    if (kind.text, len(rest)) not in (("acyclic", 0), ("cyclic", 1)):
        raise kind.fault("E801", "acyclic is wanted here, or cyclic and a number of steps")
    cycles = rest[0].natural("a number of steps") if rest else 0
    if rest and cycles == 0:
        raise rest[0].fault("E813", "no step at all: the outputs are always 0")
    if state not in (None, "reset"):
        raise NccError("E609", f"--state {state}: of this format it is reset, or kept without it")
    edges: dict[int, dict[int, float]] = {}
    for source, target, weight in _section(file, text, "source, target and weight", 3):
        into = target.natural("the id of a target")
        if into < inputs:
            raise target.fault("E801", f"a connection into {into}, which is an input")
        read_by = edges.setdefault(into, {})
        if (key := source.natural("the id of a source")) in read_by:
            raise source.fault("E801", f"a second connection from {key} to {into}",
                               note="SharpNEAT adds both, each rounded")
        read_by[key] = weight.real("a weight")
    functions = list(_section(file, text, "the number and the name of a function", 2))
    for k, (number, _) in enumerate(functions):
        if number.natural("the number of a function") != k:
            raise number.fault("E801", f"function {k} is wanted here, not {number.text}")
    if not functions:
        raise file.fault("E801", "the section of functions is empty")
    name = functions[0][1]
    if name.text not in FUNCTIONS:
        raise name.fault("E811", f"{name.text[:40]} is no function of SharpNEAT's that ncc knows",
                         help="known are " + listed(FUNCTIONS, 32))
    notes = []
    if functions[1:] or any(line.strip() for _, line in text):
        notes.append(f"SharpNEAT applies {name.text} everywhere: further functions, and lines that "
                     "give one to each node, are not used")
    return Net(inputs, outputs, cycles, edges, name.text, notes)


def _section(file: Foreign, text: Iterator[tuple[int, str]], what: str, width: int,
             length: int | None = None) -> Iterator[list[Word]]:
    """The lines of a section, which an empty line or the file's end closes, each of `width` words
    (0: at least one); `length` lines if there is such. NccError E801."""
    count, last = 0, file.text.count("\n") + 1
    for number, line in text:
        if not line:
            last = number
            break
        found = words(file, number, line)
        if not found or (width and len(found) != width):
            raise file.fault("E801", f"{what}: that is wanted here", line=number)
        count += 1
        if length is not None and count > length:
            raise file.fault("E801", "an empty line is wanted here: the section ends", line=number)
        yield found
    if length is not None and count < length:
        raise file.fault("E801", f"{what}: that is wanted here", line=last)


def _acyclic(net: Net, builder: Builder) -> list[int]:
    """Neurons by depth, which is the longest path from an input. What no input reaches is
    evaluated after its connections have been added up, so that its readers see 0."""
    hidden = {key for read_by in net.edges.values() for key in read_by} | set(net.edges)
    nodes = sorted(hidden.union(net.named) - set(range(net.inputs)))
    try:
        depth = depths({key: list(net.edges.get(key, ())) for key in nodes}, range(net.inputs))
    except ValueError as error:
        raise builder.file.fault("E812", f"{error}, in a net that calls itself acyclic") from None
    lost = 0
    for key in sorted(nodes, key=lambda key: (depth.get(key, 0), key)):
        reads = net.edges.get(key, {})
        if key in depth:
            seen = sorted((depth[source], source) for source in reads if source in depth)
            lost += len(reads) - len(seen)
            edges = [(source, reads[source]) for _, source in seen]
        elif key in net.named:
            edges, lost = [], lost + len(reads)
        else:
            lost += len(reads)
            continue
        if not edges and not net.edges:
            builder.constant(key, 0.0, str(key))
        else:
            builder.neuron(key, edges, FUNCTIONS[net.function], bias=Constant(0.0), label=str(key))
    if lost:
        net.notes.append(f"no input reaches {len(nodes) - sum(key in depth for key in nodes)} "
                         f"neurons: {lost} connections from or into them are left out")
    return list(net.named)


def _steps(net: Net, builder: Builder, reset: bool) -> list[tuple[int, int]]:
    """The net `cycles` times over, each time from the values of the time before; the first time
    from those of the last call, or from zero. Of what no output sees, now or later, nothing."""
    seen, new = set(net.named), set(net.named)
    while new:
        new = {source for key in new for source in net.edges.get(key, ())
               if source >= net.inputs} - seen
        seen |= new
    declared(builder.file, net.cycles * len(seen), f"neurons in {net.cycles} steps")
    for step in range(1, net.cycles + 1):
        for key in sorted(seen):
            edges: list[tuple[Hashable, Number]] = []
            for source, value in sorted(net.edges.get(key, {}).items()):
                weight = value if net.cycles == 1 else Tied(f"w{source}_{key}", value)
                if source < net.inputs:
                    edges.append((source, weight))
                elif step > 1:
                    edges.append(((source, step - 1), weight))
                elif not reset:
                    edges.append((Late((source, net.cycles)), weight))
            builder.neuron((key, step), edges, FUNCTIONS[net.function], bias=Constant(0.0),
                           label=str(key) if step == net.cycles else None)
    begin = ("from zero" if reset else
             "from where the call before ended; --state reset begins each from zero")
    net.notes.append(f"a call is {net.cycles} step{'s' * (net.cycles > 1)}, {begin}")
    return [(key, net.cycles) for key in net.named]


IMPORTER = Importer("sharpneat", "a net of SharpNEAT's", (".net",), recognises, read, ("state",))
