"""Genomes of goNEAT and of Stanley's NEAT, in lines (`genomestart`, `node`, `gene`) or in YAML.

A neuron is a function of a sum that starts at 0, in float64, of its enabled genes in their order.
goNEAT (4.2.0, revision 1983450) evaluates all neurons at once, in time steps: what is imported are
the values that are there when nothing changes any more.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ncc.errors import NccError
from ncc.formats.importers.builder import Builder, Constant
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Json, Options, listed
from ncc.formats.importers.words import Word, depths, lines, words
from ncc.formats.importers.yaml_subset import document

# By the names without the ending Activation. What goNEAT selects by `if` are steps, maxima and
# minima here; its Step is 0 at -0, which no sum that starts at 0 is.
FUNCTIONS: Final = {
    "SigmoidPlain": "1/(1+exp(-x))",
    "SigmoidReduced": "1/(1+exp(-0.5*x))",
    "SigmoidSteepened": "1/(1+exp(-4.924273*x))",
    "SigmoidBipolar": "2/(1+exp(-4.924273*x))-1",
    "SigmoidApproximation":
        "(max(min(x,0),-4)+4)^2*0.03125+(1-(min(max(x,0),4)-4)^2*0.03125-0.5)",
    "SigmoidSteepenedApproximation":
        "(max(min(x,0),-1)+1)^2*0.5+(1-(min(max(x,0),1)-1)^2*0.5-0.5)",
    "SigmoidInverseAbsolute": "0.5+x/(1+abs(x))*0.5",
    "SigmoidLeftShifted": "1/(1+exp(-x-2.4621365))",
    "SigmoidLeftShiftedSteepened": "1/(1+exp(-(4.924273*x+2.4621365)))",
    "SigmoidRightShiftedSteepened": "1/(1+exp(-(4.924273*x-2.4621365)))",
    "Tanh": "tanh(0.9*x)",
    "GaussianBipolar": "2*exp(-(x*2.5)^2)-1",
    "Gaussian": "exp(-x^2)",
    "Linear": "identity",
    "LinearAbs": "abs",
    "LinearClipped": "max(min(x,1),-1)",
    "Null": "0",
    "Sign": "step(x)-step(-x)",
    "Sine": "sin(2*x)",
    "Step": "1-step(-x)",
}
RATIONAL: Final = ("SigmoidApproximation", "SigmoidSteepenedApproximation",
                   "SigmoidInverseAbsolute", "Linear", "LinearAbs", "LinearClipped", "Null",
                   "Sign", "Step")
KINDS: Final = ("HIDN", "INPT", "OUTP", "BIAS")  # by their number in lines
BOOLEANS: Final = {"1": True, "0": False, "true": True, "false": False, "t": True, "f": False}


class Node(NamedTuple):
    """A node of a genome: one of KINDS, one of FUNCTIONS."""

    kind: str
    function: str


class Genome(NamedTuple):
    """Nodes by id in the file's order; of each target the weights by source, in genes' order."""

    nodes: dict[int, Node]
    edges: dict[int, dict[int, float]]


Place = Word | Json


class _Genes:
    """Takes nodes and genes, and checks them."""

    def __init__(self) -> None:
        self.genome = Genome({}, {})
        self.disabled = 0

    def node(self, key: int, kind: str, activation: str | None, place: Place, function_at: Place
             ) -> None:
        if key in self.genome.nodes:
            raise place.fault("E801", f"a second node {key}")
        if kind not in KINDS:
            raise place.fault("E810", f"{kind[:40]} is no kind of node: known are "
                                      f"{listed(KINDS)}")
        function = "SigmoidSteepened" if activation is None else activation.removesuffix(
            "Activation")
        if activation is not None and (function not in FUNCTIONS or function == activation):
            raise function_at.fault("E811", f"{activation[:40]} is no activation of goNEAT's",
                                    help="known are " + listed(
                                        [f"{name}Activation" for name in FUNCTIONS], 32))
        self.genome.nodes[key] = Node(kind, function)

    def gene(self, source: int, target: int, weight: float, recurrent: bool, enabled: bool,
             place: Place) -> None:
        for key in (source, target):
            if key not in self.genome.nodes:
                raise place.fault("E801", f"a gene names node {key}, which stands nowhere above")
        if self.genome.nodes[target].kind in ("INPT", "BIAS"):
            raise place.fault("E801", f"a gene into {target}, which is an input")
        if not enabled:
            self.disabled += 1
            return
        if recurrent:
            raise place.fault("E812", f"the gene from {source} to {target} is recurrent",
                              note="what it adds depends on how many steps an activation takes")
        edges = self.genome.edges.setdefault(target, {})
        if source in edges:
            raise place.fault("E801", f"a second gene from {source} to {target}",
                              note="goNEAT adds both, each rounded")
        edges[source] = weight


def recognises(file: Foreign) -> bool:
    head = file.data[:65536]
    return bool(re.search(rb"^genomestart[ \t]", head, re.M)
                or re.search(rb"^genome:[ \t]*(?:#[^\n]*)?\r?$", head, re.M))


def read(files: list[Foreign], options: Options) -> Imported:
    """The net, class A or, where a function needs exp, sin or tanh, B."""
    (file,) = files
    file = file.as_text()
    genes = _Genes()
    if re.search(r"^genome:", file.text, re.M):
        _of_yaml(file, genes)
    else:
        _of_lines(file, genes)
    return _built(file, options, genes)


def _of_lines(file: Foreign, genes: _Genes) -> None:
    """Nodes and genes of the plain format. NccErrors E801, E810, E811, E812."""
    started = False
    for number, line in lines(file):
        if not line.strip() or line.startswith(("/*", "trait ", "genomeend ")):
            continue
        first, *rest = found = words(file, number, line)
        if first.text == "genomestart":
            if started:
                raise first.fault("E801", "a second genome: one a file is read")
            started = True
        elif first.text == "node" and len(rest) in (4, 5):
            kind = rest[3].natural("the place of a node, 0 to 3")
            genes.node(rest[0].natural("the id of a node"),
                       KINDS[kind] if kind < len(KINDS) else rest[3].text,
                       rest[4].text if rest[4:] else None, rest[0], rest[-1])
        elif first.text == "gene" and len(rest) == 8:
            genes.gene(rest[1].natural("a node"), rest[2].natural("a node"),
                       rest[3].real("a weight"), _boolean(rest[4]), _boolean(rest[7]), first)
        else:
            raise file.fault("E801", f"a line of {len(found)} words that begins with "
                                     f"{first.text[:40]!r}", line=number,
                             note="node id trait type place activation, or gene trait in out "
                                  "weight recurrent innovation mutation enabled")


def _boolean(word: Word) -> bool:
    value = BOOLEANS.get(word.text.lower())
    if value is None:
        raise word.fault("E801", f"true or false is wanted here, not {word.text[:40]!r}")
    return value


def _of_yaml(file: Foreign, genes: _Genes) -> None:
    """Nodes and genes of the YAML format. NccErrors E801, E810, E811, E812."""
    top = document(file)["genome"]
    for place in top["nodes"]:
        genes.node(place["id"].integer(), place["type"].text(), place["activation"].text(), place,
                   place["activation"])
    for place in top["genes"]:
        genes.gene(place["src_id"].integer(), place["tgt_id"].integer(), place["weight"].real(),
                   _flag(place["recurrent"]), _flag(place["enabled"]), place)
    if top.has("modules") and top["modules"].value:
        raise top["modules"].fault("E810", "modules write into neurons whose own sums they "
                                           "replace: ncc has no such neurons")


def _flag(place: Json) -> bool:
    return bool(place.value) if place.value in (0, 1) else place.flag()


def _built(file: Foreign, options: Options, genes: _Genes) -> Imported:
    """The settled net. What no sensor reaches never switches on: it is 0, not its function of 0."""
    nodes, edges = genes.genome
    sensors = [key for key, node in nodes.items() if node.kind in ("INPT", "BIAS")]
    try:
        depth = depths({key: list(edges.get(key, ())) for key in nodes if key not in set(sensors)},
                       sensors)
    except ValueError as error:
        raise file.fault("E812", f"{error}: goNEAT's values depend on how many steps an activation "
                                 "takes") from None
    builder = Builder(file, options)
    seen = {source for read_by in edges.values() for source in read_by}
    biases = [key for key in sensors if nodes[key].kind == "BIAS" and key in seen]
    for key in sensors:
        if nodes[key].kind == "INPT":
            builder.input(key, str(key))
    for key in biases:
        builder.constant(key, 1.0, str(key))
    outputs = [key for key, node in nodes.items() if node.kind == "OUTP"]
    rational, off = True, 0
    for key, node in nodes.items():
        if key not in depth:
            off += 1
            if node.kind == "OUTP":
                builder.constant(key, 0.0, str(key))
        elif node.kind in ("HIDN", "OUTP"):
            builder.neuron(key, [(source, weight) for source, weight in edges[key].items()
                                 if source in depth],
                           FUNCTIONS[node.function], bias=Constant(0.0), label=str(key))
            rational &= node.function in RATIONAL
    if not outputs:
        raise _no_outputs(file)
    notes = [f"{genes.disabled} disabled genes are left out"] * (genes.disabled > 0)
    notes += [f"no sensor reaches {off} nodes: they never switch on, and are 0"] * (off > 0)
    notes += [f"node {listed(biases)} is a bias: 1, unless the caller of goNEAT gives another "
              "value"] * bool(biases)
    if max((depth.get(key, 0) for key in outputs), default=0) > 1:
        notes.append("the values are the settled ones, after as many time steps as the net is deep")
    return builder.made(outputs, exactness="A" if rational else "B", importer="goneat",
                        notes=notes, numerics="strict", dtype="f64")


def _no_outputs(file: Foreign) -> NccError:
    return file.fault("E801", "a genome without a node of kind OUTP (2)")


IMPORTER = Importer("goneat", "a genome of goNEAT or of Stanley's NEAT",
                    (".genome", ".yml", ".yaml"), recognises, read)
