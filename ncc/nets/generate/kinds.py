"""The kinds of nets that are made: `new`, and the table of what each takes."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any, NamedTuple

from ncc.errors import NccError, near
from ncc.formats import weights
from ncc.ir.graph import Graph
from ncc.nets.generate import attention, conv, irregular, layered, recurrent, rnn
from ncc.nets.generate.made import Made
from ncc.nets.net import Net
from ncc.passes.graph.order import order


class NewKind(NamedTuple):
    """A kind of net.

    name     what users call it
    make     (words, seed, its options by keyword) -> a graph without levels, and values but for
             those that do not depend on the rule by which values are drawn; or one that is Made
    sizes    what its words are
    example  sizes that it takes
    """

    name: str
    make: Callable[..., Graph | Made]
    sizes: str
    example: str

    @property
    def options(self) -> dict[str, Any]:
        """Its options and their defaults: the keywords of `make`."""
        return {name: p.default for name, p in signature(self.make).parameters.items()
                if p.kind is p.KEYWORD_ONLY}


KINDS = {kind.name: kind for kind in (
    NewKind("fcn", layered.fcn, "WIDTH WIDTH ...", "4 4 4 2"),
    NewKind("conv", conv.conv, "[C]xHxW [F]kSIZE[sSTRIDE][pPADDING][gGROUPS] maxSIZE WIDTH ...",
            "1x8x8 4k3 max2 10"),
    NewKind("rnn", rnn.rnn, "INPUTSxSTEPS hSTATE [lLAYERS] [oOUTPUTS]", "2x3 h4 l2"),
    NewKind("lstm", recurrent.lstm, "INPUTSxSTEPS hSTATE [lLAYERS] [oOUTPUTS]",
            "2x3 h4 l2 --bidirectional"),
    NewKind("gru", recurrent.gru, "INPUTSxSTEPS hSTATE [lLAYERS] [oOUTPUTS]", "2x3 h4 o1"),
    NewKind("attention", attention.attention, "STEPSxWIDTH [hHEADS]", "4x8 h2 --causal"),
    NewKind("transformer", attention.transformer,
            "POSITIONSxSYMBOLS [dWIDTH] [hHEADS] [lLAYERS]", "4x6 d8 h2 l1"),
    NewKind("radix", layered.radix, "N1xN2x... ...", "2x2x2 2x2x2"),
    NewKind("random", layered.random, "WIDTH WIDTH ...", "64 256 10 --density 0.05"),
    NewKind("dag", irregular.dag, "INPUTS HIDDEN OUTPUTS", "8 100 4 --density 0.1"),
    NewKind("wann", irregular.wann, "INPUTS OUTPUTS", "4 2 --probability 0.5"),
)}


def new(kind: str, *sizes: int | str, init: str | None = None, seed: int = 0, **options: Any
        ) -> Net:
    """A net of a kind: `new("fcn", 4, 4, 2)`, `new("conv", "8x8", "4k3", 10, free=True)`,
    `new("rnn", "2x3 h4 l2")`. The sizes and options of each kind stand in the guide of the command
    (ncc/cli/README.md), options of two words with an underscore: `output_activation="sigmoid"`.

    Parameters have no values unless `init` says how to draw them (`"he"`, `"xavier"`, `"uniform"`,
    `"shared:0.5"`); the gains of norms are 1. The same `seed` draws the same edges and the same
    values. `net.tensors` and `net.to_state_dict()` have the parameters of `lstm`, `gru`,
    `attention` and `transformer` by the names that they have in torch.

    NccError E651 for an unknown kind or an option that it does not take, E652 for sizes that are
    not its, E653 for a number out of range, E654 for sizes that do not fit, E655 for too many
    edges, E118 for an unknown activation, E144 for an unknown rule or a negative seed.
    """
    known = KINDS.get(kind)
    if known is None:
        raise NccError("E651", f"no kind {kind!r} of new nets", help=near(kind, KINDS))
    for name in options:
        if name not in known.options:
            raise NccError("E651", f"{kind} takes no {name.replace('_', '-')}",
                           help="it takes " + ", ".join(n.replace("_", "-")
                                                         for n in known.options))
    if seed < 0:
        raise NccError("E144", f"the seed {seed} is negative")
    words = [word for size in sizes for word in str(size).split()]
    found = known.make(words, seed, **options)
    graph, tensors = found if isinstance(found, Made) else (found, {})
    graph = order(graph)
    if init is not None:
        graph = graph.with_(values=weights.init(graph, init, seed))
    return Net(graph, tensors)
