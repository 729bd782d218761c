"""What is wrong with a genome of neat-python, said with the genome and the gene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ncc.errors import NccError

SHOWN = 12  # nodes of a cycle that a message names


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
        done: set[int] = set()
        path: dict[int, int] = {}  # the nodes on the way, and how many sources of each are done
        for output in outputs:
            stack = [output]
            while stack:
                key = stack[-1]
                turn = path.get(key, 0)
                path[key] = turn + 1
                if turn == len(reads[key]):
                    done.add(stack.pop())
                    del path[key]
                    continue
                source = reads[key][turn]
                if source in path:
                    return _ring(name, stack[stack.index(source):])
                if source not in done:
                    stack.append(source)
    raise AssertionError("a cycle that is none")


def _ring(name: Any, nodes: list[int]) -> NccError:
    """Of nodes each of which reads the next one, and the last one the first."""
    turn = nodes.index(min(nodes))
    along = [*nodes[turn::-1], *nodes[:turn:-1]]
    shown = [str(key) for key in [*along, along[0]]]
    if len(shown) > SHOWN:
        shown = [*shown[: SHOWN - 2], "...", *shown[-2:]]
    return NccError("E812", f"genome {name}: a cycle: {' -> '.join(shown)}",
                    help="recurrent=True, or feed_forward = True in the configuration")


def _number(value: Any) -> bool:
    try:
        math.isfinite(value)
    except OverflowError:
        return False
    except TypeError:
        return False
    return True
