"""Nets evaluated by many processes, over Dask: chunks of a list of compiled nets, and populations.

    python examples/cluster.py                              two processes of this machine
    python examples/cluster.py --scheduler tcp://HOST:8786  those of a cluster

The nets are mutants of digits.nal that lack a tenth of its edges each. They are compiled here, and
their code travels with them, so that a process on a machine of the same kind compiles nothing; on
another kind it compiles them again. As populations, for which nothing is compiled, the same nets
travel in fewer bytes. Either way the outputs are the same bits as here.

Wants Dask (`pip install 'ncc-compiler[dask]'`).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ncc

HERE = Path(__file__).parent
Singles = NDArray[np.float32]


def mutants(count: int, seed: int = 0) -> Iterator[ncc.Net]:
    """digits.nal, each time with a tenth of its edges left out, drawn anew."""
    rng = np.random.default_rng(seed)
    lines = (HERE / "digits.nal").read_text().splitlines()
    for _ in range(count):
        changed = []
        for line in lines:
            read = re.fullmatch(r"(\w+ \w+ )(\S+:\S+)( .*)?", line)
            if read:
                edges = [e for e in read[2].split(",") if rng.random() >= 0.1]
                line = f"{read[1]}{','.join(edges)}{read[3] or ''}"
            changed.append(line)
        yield ncc.parse("\n".join(changed) + "\n", name="mutant.nal")


def outputs(fns: Sequence[ncc.Compiled | ncc.Population], x: Singles) -> list[Singles]:
    """Of each net (n, 10), or population (nets, n, 10), of the same samples x (n, 64): what a
    process does with a chunk."""
    return [fn(x) for fn in fns]


def populations(nets: Sequence[ncc.Net], size: int) -> list[ncc.Population]:
    """The nets, so many in each."""
    return [ncc.population(nets[first : first + size]) for first in range(0, len(nets), size)]


def in_chunks(client: Any, work: Callable[[Sequence[Any], Any], list[Any]], things: Sequence[Any],
              samples: Any, size: int) -> list[Any]:
    """`work(things, samples)`, in chunks of `size` things, each by a process of the cluster.

    The samples are sent to each process once. Chunks are to be so large that the work on one takes
    some 10 ms or more: what Dask does for a chunk takes about one.
    """
    chunks = [things[first : first + size] for first in range(0, len(things), size)]
    # Without `hash` the key is new: else these could be samples of the call before, and deleted.
    everywhere = client.scatter(samples, broadcast=True, hash=False)
    # Not `pure`, or Dask would hash all things to find out whether it has the result of a chunk.
    futures = client.map(work, chunks, [everywhere] * len(chunks), pure=False)
    return [result for chunk in client.gather(futures) for result in chunk]


@contextmanager
def cluster(scheduler: str | None = None, processes: int = 2) -> Iterator[Any]:
    """A client of the scheduler, or of that many processes of this machine."""
    try:
        from dask.distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise SystemExit(f"this wants Dask ({error}): pip install 'ncc-compiler[dask]'") from None
    if scheduler:
        with Client(scheduler) as client:
            yield client
        return
    with LocalCluster(n_workers=processes, threads_per_worker=1, processes=True,
                      dashboard_address=None) as local, Client(local) as client:
        yield client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheduler", help="the address of a cluster")
    parser.add_argument("--nets", type=int, default=12)
    parser.add_argument("--chunk", type=int, default=3, help="nets of a chunk")
    asked = parser.parse_args()
    x = np.loadtxt(HERE / "digits.csv", np.float32, delimiter=",")
    labels = np.loadtxt(HERE / "digits_labels.csv", int)
    nets = list(mutants(asked.nets))
    fns, pops = [ncc.compile(net) for net in nets], populations(nets, asked.chunk)
    with cluster(asked.scheduler) as client:
        there = in_chunks(client, outputs, fns, x, asked.chunk)
        many = in_chunks(client, outputs, pops, x, 1)
    here = outputs(fns, x)
    for of, found in (("chunks", there), ("populations", np.concatenate(many))):
        same = all(np.array_equal(a, b) for a, b in zip(found, here, strict=True))
        print(f"{len(nets)} nets in {of} of {asked.chunk}: "
              + ("the same bits as here" if same else "OTHER BITS THAN HERE"))
    right = [int((y.argmax(axis=1) == labels).sum()) for y in there]
    print(f"right of {len(labels)}: {max(right)} the best, {min(right)} the worst")


if __name__ == "__main__":
    main()
