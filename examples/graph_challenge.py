"""The Sparse DNN Graph Challenge (graphchallenge.mit.edu) with nets compiled by ncc.

    python examples/graph_challenge.py                                      a small one
    python examples/graph_challenge.py --layers 120 --rows 60000 --threads 2    the full size

A layer has N neurons, each with 32 edges of weight 1/16 and a bias of -0.3 (for N = 1,024), and
y = min(32, relu(sum)). The topology is the challenge's RadiX-Net (Kepner & Robinett 2019); the
pictures are real digits, those of digits.csv, enlarged, moved about, and cut to 0 or 1 so that a
tenth of the pixels is 1, as in the challenge. Its score is rows x edges / seconds, printed for

- the net as given: its weights are parameters, and each edge of each row is computed;
- the same with `skip_dead`: most rows are all zero after some layers, and leave the batch there;
- the net with its weights as constants, whereupon `merge` sees that 16 neurons of a layer are
  equal. That is a property of this net: compare it with nobody's kernel.

`--random-weights` draws the weights, so that no two neurons are equal.

What has to come out: each row's last layer is all 0 or all 32 (the challenge's truth files show the
same), and at full depth about 3 % of the rows are alive. The exit status is 1 where it does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ncc
from ncc.passes.graph.merge import merge
from ncc.passes.graph.prune import prune

HERE = Path(__file__).parent
FAN_IN = 32
BIASES = {1024: -0.30, 4096: -0.35, 16384: -0.40, 65536: -0.45}
ON = 0.1037  # the part of the challenge's pixels that is 1
PENS = 0.37  # chosen so that 3 % of the rows live, as of the challenge's

Table = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Singles = NDArray[np.float32]


# ---- the net


def sources(neurons: int, k: int) -> Table:
    """(neurons, 32): whom each neuron of layer k of a group reads in the layer before.

    A RadiX-Net of radix 2 over N/16 places, in which neuron j reads j and j + 2^k; each place is 16
    neurons, and all 16 read all 16.
    """
    places = neurons // 16
    place, copies = np.arange(neurons) % places, np.arange(16) * places
    return np.concatenate([place[:, None] + copies,
                           ((place + (1 << k)) % places)[:, None] + copies], axis=1)


def net(neurons: int, layers: int, seed: int = 0) -> list[Table]:
    """A table of sources for each layer: groups of log2(N/16) layers, each but the first group with
    a permutation of its own over what it reads."""
    size = (neurons // 16).bit_length() - 1
    rng = np.random.default_rng(seed)
    tables: list[Table] = []
    place = np.arange(neurons)
    for layer in range(layers):
        if layer and layer % size == 0:
            place = np.argsort(rng.permutation(neurons))
        tables.append(np.sort(place[sources(neurons, layer % size)], axis=1))
    return tables


def nal(neurons: int, layers: int, seed: int = 0, *, weight: str = "0.0625",
        bias: str | None = None) -> bytes:
    """The net as a neural adjacency list. A weight of `0.0625` is a parameter, one of each edge;
    `=0.0625` is a constant, which the compiler knows. `random` draws them, up to 1/8."""
    bias = f"={BIASES.get(neurons, -0.3)}" if bias is None else bias
    count = neurons * (layers + 1)
    digits = len(f"{count - 1:x}")
    first = neurons * np.arange(layers)[:, None, None]
    source = (np.stack(net(neurons, layers, seed)) + first).reshape(-1, FAN_IN)
    if weight == "random":
        drawn = np.random.default_rng(seed + 1).integers(0, 125_000, source.shape)
        weights: Any = np.char.mod(b":0.%06d", drawn)
    else:
        weights = np.full(source.shape, f":{weight}".encode())
    commas = np.full(source.shape, b",")
    commas[:, -1] = b" "
    edges = side_by_side(characters(source, digits), weights, commas)
    inputs = side_by_side(characters(np.arange(neurons), digits), np.full(neurons, b"\n"))
    rest = np.arange(neurons, count)
    lines = side_by_side(characters(rest, digits), np.full(len(rest), b" 20 "),
                         edges.reshape(len(rest), -1),
                         np.full(len(rest), f"+{bias}\n".encode()))
    head = f"N {count:x}\nfn 20 min(32, relu(x))\n".encode()
    return head + inputs.tobytes() + lines.tobytes()


def characters(numbers: Table, digits: int) -> Bytes:
    """Each number as `digits` hexadecimal digits, in a last axis."""
    shifts = 4 * np.arange(digits)[::-1]
    return np.frombuffer(b"0123456789abcdef", np.uint8)[numbers[..., None] >> shifts & 15]


def side_by_side(*columns: NDArray[Any]) -> Bytes:
    """Columns of characters, or of words of one length each, joined row by row."""
    shape = columns[0].shape[:-1]
    return np.concatenate([np.ascontiguousarray(column).view(np.uint8).reshape(*shape, -1)
                           for column in columns], axis=-1)


# ---- the pictures


def pictures(rows: int, neurons: int, seed: int = 0) -> Singles:
    """(rows, neurons) of 0 and 1: digits of sqrt(neurons) pixels a side, column by column.

    Each is one of the 360 of digits.csv (8 x 8 grey pixels), enlarged bilinearly, moved by up to a
    pixel of the 8 x 8 either way, and cut to 0 or 1 as a thick or a thin pen would: at the grey
    that leaves a part of all pixels on, drawn log-normal with mean ON and deviation PENS.
    """
    side = int(neurons**0.5)
    rng = np.random.default_rng(seed)
    digits = np.loadtxt(HERE / "digits.csv", np.float32, delimiter=",").reshape(-1, 8, 8)
    which = np.arange(rows) % len(digits)
    moves = rng.integers(-side // 8, side // 8 + 1, (rows, 2))
    out = np.empty((rows, side, side), np.float32)
    large = np.stack([enlarged(digit, side) for digit in digits])
    for row, (digit, (down, right)) in enumerate(zip(which, moves, strict=True)):
        out[row] = np.roll(large[digit], (down, right), axis=(0, 1))
    on = ON * np.exp(PENS * rng.standard_normal(rows) - PENS**2 / 2)
    cuts = np.quantile(large, 1 - np.minimum(on, 1)).astype(np.float32)
    out = out > cuts[:, None, None]
    return np.ascontiguousarray(out.transpose(0, 2, 1).reshape(rows, -1), np.float32)


def enlarged(picture: Singles, side: int) -> Singles:
    """Bilinear, half-pixel centres."""
    old = len(picture)
    at = np.clip((np.arange(side) + 0.5) * old / side - 0.5, 0, old - 1)
    low = np.minimum(at.astype(np.int64), old - 2)
    part = (at - low).astype(np.float32)
    across = picture[:, low] * (1 - part) + picture[:, low + 1] * part
    return across[low] * (1 - part[:, None]) + across[low + 1] * part[:, None]


# ---- the race


def loaded(text: bytes) -> tuple[ncc.Net, float]:
    """The net, and the seconds that reading it took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "challenge.nal")
        path.write_bytes(text)
        began = time.perf_counter()
        return ncc.load(path), time.perf_counter() - began


def timed(function: Any, rounds: int) -> tuple[Any, float]:
    """What it gives, and the median seconds of `rounds` calls after a first."""
    result, times = function(), []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return result, median(times)


def same(a: Singles, b: Singles) -> bool:
    return a.tobytes() == b.tobytes()


def race(arguments: argparse.Namespace) -> bool:
    """Prints the lines; whether everything came out as it has to."""
    neurons, layers, rows = arguments.neurons, arguments.layers, arguments.rows
    x = pictures(rows, neurons, arguments.seed)
    edges = neurons * layers * FAN_IN
    print(f"{neurons:,} neurons x {layers} layers, {edges:,} edges, {rows:,} rows with "
          f"{x.mean():.2%} ones, threads {arguments.threads}")
    print(f"{'':40}{'seconds':>10}{'edges/s':>12}", flush=True)
    good = True

    def line(what: str, seconds: float, right: bool) -> None:
        nonlocal good
        good = good and right
        print(f"{what:40}{seconds:10.4f}{rows * edges / seconds:12.3g}"
              + ("" if right else "  WRONG"), flush=True)

    weight = "random" if arguments.random_weights else "0.0625"
    given, read = loaded(nal(neurons, layers, arguments.seed, weight=weight))
    began = time.perf_counter()
    fn = ncc.compile(given, threads=arguments.threads, cache=False)
    made = time.perf_counter() - began
    y, seconds = timed(lambda: fn(x), arguments.rounds)
    saturated = bool(np.isin(y, (0, 32)).all())
    line("as given", seconds, saturated or arguments.random_weights or layers < 24)
    skipping = ncc.compile(given, threads=arguments.threads, skip_dead=True)
    z, seconds = timed(lambda: skipping(x), arguments.rounds)
    line("dead rows skipped", seconds, same(y, z))
    if not arguments.random_weights:
        constant, _ = loaded(nal(neurons, layers, arguments.seed, weight="=0.0625"))
        for numerics in ("fused", "fast"):
            small = prune(merge(constant.graph, numerics=numerics), numerics=numerics)
            merged = ncc.compile(constant, threads=arguments.threads, numerics=numerics)
            z, seconds = timed(lambda merged=merged: merged(x), arguments.rounds)
            right = same(y, z) if numerics == "fused" else np.allclose(y, z, 1e-4, 1e-4)
            line(f"merged, {numerics}: {edges / small.n_edges:.1f}x fewer edges", seconds,
                 bool(right))
    alive = int(y.any(axis=1).sum())
    print(f"alive: {alive:,} of {rows:,} rows ({alive / rows:.2%}); "
          + ("each row ends all 0 or all 32" if saturated and bool((y.all(axis=1)
             == y.any(axis=1)).all()) else "not every row ends all 0 or all 32"))
    print(f"file to callable, as given: {read:.1f} s to read, {made:.1f} s to compile")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=1024, help="a layer: 1024, 4096, ...")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1, help="0 is one a core")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is printed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random-weights", action="store_true")
    arguments = parser.parse_args()
    if not race(arguments):
        sys.exit(1)


if __name__ == "__main__":
    main()
