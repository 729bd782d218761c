"""Genomes of goNEAT and of Stanley's NEAT, in lines (`genomestart`, `node`, `gene`) or in YAML.

A neuron is a function of a sum that starts at 0, in float64, of its enabled genes in their order.
goNEAT (4.2.0, revision 1983450) evaluates all neurons at once, in time steps: what is imported are
the values that are there when nothing changes any more.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

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
# Modules: our aggregation of the values of their inputs, and what becomes of it, since the largest
# begins as the least int64.
MODULES: Final = {
    "MultiplyModuleActivation": ("mul", "identity"),
    "MaxModuleActivation": ("maximum", "max(x,-9223372036854775808)"),
    "MinModuleActivation": ("minimum", "identity"),
}
KINDS: Final = ("HIDN", "INPT", "OUTP", "BIAS")  # by their number in lines
BOOLEANS: Final = {"1": True, "0": False, "true": True, "false": False, "t": True, "f": False}


class Node(NamedTuple):
    """A node of a genome: one of KINDS, one of FUNCTIONS."""

    kind: str
    function: str


class Module(NamedTuple):
    """What sets the value of a node, whatever its own sum is: one of MODULES, of these nodes."""

    function: str
    sources: list[int]


class Genome(NamedTuple):
    """Nodes by id in the file's order; of each target the weights by source, in genes' order;
    modules by the node that they write."""

    nodes: dict[int, Node]
    edges: dict[int, dict[int, float]]
    modules: dict[int, Module]

    def sources(self) -> dict[int, list[int]]:
        """What each node reads that is no sensor."""
        return {key: (self.modules[key].sources if key in self.modules else
                      list(self.edges.get(key, ())))
                for key, node in self.nodes.items() if node.kind in ("HIDN", "OUTP")}


Place = Word | Json


class _Genes:
    """Takes nodes and genes, and checks them."""

    def __init__(self) -> None:
        self.genome = Genome({}, {}, {})
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

    def module(self, function: str, sources: list[int], outputs: list[int], place: Json) -> None:
        if function not in MODULES:
            raise place.fault("E811", f"{function[:40]} is no module of goNEAT's",
                              help="known are " + listed(MODULES))
        if len(outputs) != 1 or not sources:
            raise place.fault("E801", "a module of goNEAT's reads nodes and writes one")
        for key in (*sources, *outputs):
            if key not in self.genome.nodes:
                raise place.fault("E801", f"a module names node {key}, which is none")
        (target,) = outputs
        if self.genome.nodes[target].kind in ("INPT", "BIAS"):
            raise place.fault("E801", f"a module writes {target}, which is an input")
        if target in self.genome.modules or len(set(sources)) < len(sources):
            raise place.fault("E801", f"a second module of {target}, or one that reads a node "
                                      "twice")
        self.genome.modules[target] = Module(function, sources)


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
    if top.has("modules") and top["modules"].value is not None:
        for place in top["modules"]:
            if _flag(place["enabled"]):
                genes.module(place["activation"].text(), _ids(place["inputs"]),
                             _ids(place["outputs"]), place)


def _ids(place: Json) -> list[int]:
    return [each["id"].integer() for each in place]


def _flag(place: Json) -> bool:
    return bool(place.value) if place.value in (0, 1) else place.flag()


def _built(file: Foreign, options: Options, genes: _Genes) -> Imported:
    """The settled net. What no sensor and no module reaches never switches on: it is 0, not its
    function of 0."""
    nodes, edges, modules = genes.genome
    sensors = [key for key, node in nodes.items() if node.kind in ("INPT", "BIAS")]
    sources = genes.genome.sources()
    try:
        depth = depths(sources, sensors)
    except ValueError as error:
        raise file.fault("E812", f"{error}: goNEAT's values depend on how many steps an activation "
                                 "takes") from None
    on = depths({key: read_by for key, read_by in sources.items() if key not in modules},
                [*sensors, *modules])
    outputs = [key for key, node in nodes.items() if node.kind == "OUTP"]
    if not outputs:
        raise file.fault("E801", "a genome without a node of kind OUTP (2)")
    builder = Builder(file, options)
    read_keys = {source for read_by in sources.values() for source in read_by}
    biases = [key for key in sensors if nodes[key].kind == "BIAS" and key in read_keys]
    for key in sensors:
        if nodes[key].kind == "INPT":
            builder.input(key, str(key))
    for key in biases:
        builder.constant(key, 1.0, str(key))
    of_modules = {source for module in modules.values() for source in module.sources}
    used = set()
    for key, node in nodes.items():
        if key in modules:
            how, function = MODULES[modules[key].function]
            builder.neuron(key, [(source, Constant(1.0)) for source in modules[key].sources],
                           function, aggregation=how, label=str(key))
        elif key not in on:
            if node.kind == "OUTP" or key in of_modules:
                builder.constant(key, 0.0, str(key))
        elif node.kind in ("HIDN", "OUTP"):
            builder.neuron(key, [(source, weight) for source, weight in edges[key].items()
                                 if source in on],
                           FUNCTIONS[node.function], bias=Constant(0.0), label=str(key))
            used.add(node.function)
    notes = [f"{genes.disabled} disabled genes are left out"] * (genes.disabled > 0)
    off = sum(key not in on for key in sources)
    notes += [f"no sensor reaches {off} nodes: they never switch on, and are 0"] * (off > 0)
    notes += [f"node {listed(biases)} is a bias: 1, unless the caller of goNEAT gives another "
              "value"] * bool(biases)
    if max((depth.get(key, 0) for key in outputs), default=0) > 1:
        notes.append("the values are the settled ones, after as many time steps as the net is deep")
    return builder.made(outputs, exactness="A" if used <= set(RATIONAL) else "B",
                        importer="goneat", notes=notes, numerics="strict", dtype="f64")


IMPORTER = Importer("goneat", "a genome of goNEAT or of Stanley's NEAT",
                    (".genome", ".yml", ".yaml"), recognises, read)
