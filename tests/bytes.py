"""The bytes of every output, as hashes: python tests/bytes.py [--against REV] [--only TEXT]

One line an output, `SHA-256  KIND  CASE`, for the kinds ssa, llvm, c, header and obj of the cases
below: nets x forms, dtypes, numerics, training, targets. `--against REV` takes the same cases
through the ncc of that commit, in a work tree of its own, and prints what differs as `-` and `+`
lines; the exit status is then 1. A change that is to leave every output alone is held to it so:

    python tests/bytes.py --against HEAD~1

Nothing but the command line is used (`python -m ncc build`), so that the commits may keep their
modules where they like. The nets are made here or taken from this checkout, for both sides.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[1]
KINDS = ("ssa", "llvm", "c", "header", "obj")
ENDINGS = {"llvm": "ll", "header": "h", "obj": "o"}


# ---- nets


def layers(widths: Sequence[int], fan_in: int, activations: Sequence[str], seed: int) -> str:
    """A .nal text: each neuron reads `fan_in` of the layer before (0: all), with weights."""
    random = Random(seed)
    lines = [f"N {sum(widths):x}", *(f"{j:02x}" for j in range(widths[0]))]
    start = 0
    for depth, (before, width) in enumerate(zip(widths, widths[1:], strict=False)):
        for j in range(start + before, start + before + width):
            span = range(start, start + before)
            sources = sorted(random.sample(span, min(fan_in, before))) if fan_in else span
            items = ",".join(f"{i:02x}:{random.uniform(-1, 1):.4f}" for i in sources)
            bias = f"+{random.uniform(-1, 1):.4f}"
            lines.append(f"{j:02x} {activations[depth % len(activations)]} {items} {bias}")
        start += before
    return "\n".join(lines) + "\n"


def evolved(inputs: int, neurons: int, seed: int) -> str:
    """A .nal text as evolution leaves nets: any activation, any aggregation, any earlier source."""
    random = Random(seed)
    lines = [f"N {inputs + neurons:x}", *(f"{j:02x}" for j in range(inputs))]
    for j in range(inputs, inputs + neurons):
        sources = sorted(random.sample(range(j), min(j, random.randrange(1, 6))))
        items = ",".join(f"{i:02x}:{random.uniform(-2, 2):.3f}" for i in sources)
        how = random.choice(["", "", "", "mul ", "mean ", "max ", "min ", "maxabs "])
        bias = f" +{random.uniform(-1, 1):.3f}" if random.random() < 0.6 else ""
        lines.append(f"{j:02x} {random.randrange(0x20):x} {how}{items}{bias}")
    return "\n".join(lines) + "\n"


def patches(side: int, window: int, filters: int) -> str:
    """A .nal text of a convolution over side x side inputs, its weights tied, and one sum."""
    places = side - window + 1
    lines = [f"N {side * side + filters * places * places + 1:x}"]
    lines += [f"{j:02x}" for j in range(side * side)]
    j = side * side
    for f in range(filters):
        for y in range(places):
            for x in range(places):
                items = ",".join(f"{(y + r) * side + x + c:02x}@k{f}_{r}_{c}"
                                 for r in range(window) for c in range(window))
                lines.append(f"{j:02x} relu {items} +@b{f}")
                j += 1
    lines.append(f"{j:02x} 0 " + ",".join(f"{i:02x}:0.25" for i in range(side * side, j)))
    return "\n".join(lines) + "\n"


MIXED = """N 10
fn 20 1/(1+exp(-4.9*x))
fn 21 max(x, 0.1*x)^2 - tanh(x)
out 0c,0d,0f,01
00
01
02
03
04 20 00,01 +
05 21 00:0.5,01:-1.25,02
06 gelu 00@k0,01@k1:0.5,03@k0 +@b0
07 0 04:=1,05:=-1 +=0.5
08 silu mul 04,05 +0.1
09 0 +=1
0a abs mean 06,07,08 +@b0
0b selu max 06,07,09
0c tanh 0a,0b:0.3 +-0.2
0d relu 0a,0b:0.3 +-0.2
0e erf 0a,0b
0f softplus maxabs 0c,0d,09
"""

TWINS = """N b
00
01
02
03 relu 00:=0.5,01:=0.25
04 relu 00:=0.5,01:=0.25
05 relu 01:=0.5,02:=0.25
06 tanh 03:=1,04:=1 +=0.5
07 tanh 03:=1,04:=1 +=0.5
08 sin 05:=2
09 0 06:=1,07:=2 +
0a 0 06:=1,05:=2
"""

NEL = """N 8
act 4-6 relu
act 7 sigmoid
agg 6 mul
bias 4 +0.1
bias 7 +
0 4 0.5
1 4 -0.25
2 5 @k0
3 5 @k1:0.75
0 5 @k0
4 6
5 6 =1
6 7 0.125
4 7
"""

NAM = "\n".join(["000110", "000101", "000011", "000001", "000001", "000000"]) + "\n"


def nets() -> dict[str, str]:
    """File name -> text of the nets that are made here."""
    return {
        "mixed.nal": MIXED,
        "twins.nal": TWINS,
        "edges.nel": NEL,
        "matrix.nam": NAM,
        "evolved.nal": evolved(6, 24, 1),
        "smooth.nal": layers([4, 8, 3], 0, ["tanh", "sigmoid"], 2),
        "dense.nal": layers([24, 32, 32, 10], 0, ["relu", "gelu", "0"], 3),
        "sparse.nal": layers([48, 64, 64, 8], 5, ["relu", "tanh", "0"], 4),
        "wide.nal": layers([300, 4, 1], 0, ["relu", "0"], 5),
        "deep.nal": layers([3] + [4] * 24, 2, ["tanh", "softsign"], 6),
        "patches.nal": patches(6, 3, 2),
        "large.nal": layers([160, 256, 256, 16], 12, ["relu", "leaky_relu", "0"], 7),
        "broad.nal": layers([96, 128, 128, 10], 0, ["relu", "relu", "0"], 8),
    }


# ---- cases


class Case(NamedTuple):
    net: str
    words: str = ""

    def __str__(self) -> str:
        return " ".join([self.net, *self.words.split()])


def cases() -> list[Case]:
    """Nets made here, and those of examples/, each with words of the command line."""
    every = "--init he --seed 7"
    out = [Case(net, f"--backward {every}") for net in nets()]
    out += [Case(f"examples/{net}", f"--backward {every}")
            for net in ("xor.nal", "conv_4x4_k3.nam", "rnn_2x3_h4.nam")]
    out += [
        Case("examples/digits.nal", "--no-backward"),
        Case("examples/digits.nal", "--train ce,adam --target x86-64-v3"),
        Case("large.nal", "--embed-weights --target x86-64-v3"),
        Case("broad.nal", "--train mse,sgd:momentum=0.9 --dtype f64 --numerics strict"),
        Case("broad.nal", "--backward --target aarch64"),
        Case("mixed.nal", "-O0"),
        Case("smooth.nal", "--backward -O3 --dtype f64"),
        Case("evolved.nal", "--backward --numerics strict"),
        Case("evolved.nal", "--numerics fast --dtype f64 --no-backward"),
        Case("dense.nal", "--form table --batch-form table --backward --backward-form table"),
        Case("dense.nal", "--form shared --batch-form shared --dtype f64 --no-backward"),
        Case("sparse.nal", "--form straight --batch-form straight --no-backward"),
        Case("sparse.nal", "--backward --backward-form table --numerics fast"),
        Case("patches.nal", f"--backward --batch-form table --dtype f64 {every}"),
        Case("smooth.nal", "--backward --form table --batch-form straight --numerics strict"),
        Case("deep.nal", "--backward --recompute 64"),
        Case("mixed.nal", f"--embed-weights {every} --no-backward --name unit"),
        Case("twins.nal", f"--embed-weights {every}"),
        Case("smooth.nal", "--train mse,adam"),
        Case("smooth.nal", "--train ce,sgd:momentum=0.9 --dtype f64 --backward-form table"),
        Case("dense.nal", "--train huber:delta=2,adam --backward-form table"),
        Case("patches.nal", f"--train mse,rmsprop {every}"),
        Case("mixed.nal", f"--train mae,adamw {every} --target x86-64"),
        Case("evolved.nal", "--target x86-64-v4 --no-backward"),
        Case("dense.nal", "--target x86-64-v3 --batch-form shared --no-backward"),
        Case("mixed.nal", "--target i686 --no-backward"),
        Case("smooth.nal", "--target aarch64 --backward"),
        Case("smooth.nal", "--target cortex-m0 --no-backward"),
        Case("mixed.nal", "--target cortex-m4f"),
        Case("smooth.nal", "--target rv32imac --train mse,sgd"),
        Case("evolved.nal", "--target rv64gc --no-backward"),
        Case("smooth.nal", "--target wasm32"),
        Case("twins.nal", "--target x86_64-pc-windows-msvc"),
    ]
    return out


def hashes(wanted: Iterable[Case], folder: Path) -> Iterator[str]:
    """The lines of `wanted`, made by the ncc that this process imports, in `folder`."""
    os.environ["NCC_CACHE_SIZE"] = "0"
    for name, text in nets().items():
        (folder / name).write_text(text)
    for number, case in enumerate(wanted):
        net = TOP / case.net if "/" in case.net else folder / case.net
        made = folder / f"made-{number}"
        made.mkdir()
        status = _ncc(["build", str(net), *case.words.split(), "--emit", ",".join(KINDS), "-o",
                       f"{made}{os.sep}"])
        for kind in KINDS:
            found = sorted(made.glob(f"*.{ENDINGS.get(kind, kind)}"))
            if status or not found:
                yield f"{f'exit status {status}':<64}  {kind:<6}  {case}"
                continue
            digest = hashlib.sha256(b"".join(file.read_bytes() for file in found))
            yield f"{digest.hexdigest()}  {kind:<6}  {case}"


def _ncc(words: list[str]) -> int:
    """`python -m ncc WORDS` within this process: its exit status. What it says is for a failure."""
    before, said = sys.argv, io.StringIO()
    sys.argv = ["ncc", *words]
    try:
        with redirect_stdout(said), redirect_stderr(said):
            runpy.run_module("ncc", run_name="__main__")
        return 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    finally:
        sys.argv = before
    if status:
        print(f"ncc {' '.join(words)}\n{said.getvalue()}", file=sys.stderr)
    return status


# ---- two commits


def lines_of(tree: Path, words: Sequence[str]) -> list[str]:
    """What this file prints when the ncc of `tree` is imported."""
    path = os.pathsep.join(filter(None, [str(tree), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, str(Path(__file__).resolve()), *words], text=True,
                          cwd=tree, env={**os.environ, "PYTHONPATH": path},
                          stdout=subprocess.PIPE, check=True)
    return done.stdout.splitlines()


def differing(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """`- line` and `+ line` of each output that is not the same, in the order of `new`."""
    before = {line[66:]: line for line in old}
    out = []
    for line in new:
        was = before.pop(line[66:], None)
        if was != line:
            out += [f"- {was}"] * (was is not None) + [f"+ {line}"]
    return out + [f"- {line}" for line in before.values()]


def against(revision: str, words: Sequence[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), revision],
                       cwd=TOP, check=True)
        try:
            old = lines_of(tree, words)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=TOP,
                           check=True)
    return differing(old, lines_of(TOP, words))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--against", metavar="REV", help="compare with the ncc of this commit")
    parser.add_argument("--only", metavar="TEXT", default="",
                        help="of the cases whose line has this text")
    args = parser.parse_args()
    if args.against:
        found = against(args.against, [f"--only={args.only}"])
        print("\n".join(found) if found else f"every output is that of {args.against}")
        return int(bool(found))
    wanted = [case for case in cases() if args.only in str(case)]
    with tempfile.TemporaryDirectory() as scratch:
        for line in hashes(wanted, Path(scratch)):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
