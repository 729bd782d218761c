"""What is wrong with a genome of neat-python, said with the genome and the gene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ncc.errors import NccError
from ncc.formats.importers.neat_net import cycle_of, ring_text


def malformed(genomes: Sequence[tuple[Any, Any]], inputs: Sequence[int], outputs: Sequence[int]
              ) -> NccError | None:
    """The first gene that is none, E801; None where all are well."""
    for name, genome in genomes:
        if not (hasattr(genome, "nodes") and hasattr(genome, "connections")):
            return NccError("E801", f"genome {name} is a {type(genome).__name__}, which has not "
                                    "the nodes and connections of neat-python's")
        for key, gene in genome.nodes.items():
            for attribute in ("bias", "response"):
                if not _number(getattr(gene, attribute, None)):
                    return NccError("E801", f"genome {name}, node {key}: its {attribute} is no "
                                            "number")
            for attribute in ("activation", "aggregation"):
                if not isinstance(getattr(gene, attribute, None), str):
                    return NccError("E801", f"genome {name}, node {key}: its {attribute} is no "
                                            "name")
        known = {*inputs, *genome.nodes}
        for key in outputs:
            if key not in known:
                return NccError("E801", f"genome {name}: output {key} is no node")
        for ends, gene in genome.connections.items():
            for key in ends:
                if key not in known:
                    return NccError("E801", f"genome {name}, connection {ends}: {key} is no node")
            if not _number(getattr(gene, "weight", None)):
                return NccError("E801", f"genome {name}, connection {ends}: its weight is no "
                                        "number")
            if not hasattr(gene, "enabled"):
                return NccError("E801", f"genome {name}, connection {ends}: it is neither enabled "
                                        "nor disabled")
    return None


def refusal(code: str, what: str, pair: tuple[Any, Any], inputs: Sequence[int], number: int
            ) -> NccError:
    """What is wrong with a node, by its number among inputs and nodes. E811 is of `what` has not
    a formula: its activation or its aggregation."""
    name, genome = pair
    key = [*inputs, *genome.nodes][number]
    where = f"genome {name}, node {key}: "
    if code != "E811":
        return NccError(code, where + what)
    function = getattr(genome.nodes[key], what)
    return NccError(code, f"{where}{what} {function} is not one that ncc has a formula of",
                    help="neat-python's own functions but the median; leave it out of "
                         f"{what}_options")


def cycle(genomes: Sequence[tuple[Any, Any]], outputs: Sequence[int]) -> NccError:
    """A cycle that an output depends on, of the first genome that has one."""
    for name, genome in genomes:
        reads: dict[int, list[int]] = {key: [] for key in genome.nodes}
        for (source, target), gene in genome.connections.items():
            if gene.enabled and source in reads:
                reads[target].append(source)
        ring = cycle_of(outputs, reads.__getitem__)
        if ring:
            return NccError("E812", f"genome {name}: a cycle: {ring_text(ring)}",
                            help="recurrent=True, or feed_forward = True in the configuration")
    raise AssertionError("a cycle that is none")


def _number(value: Any) -> bool:
    try:
        math.isfinite(value)
    except OverflowError:
        return False
    except TypeError:
        return False
    return True
