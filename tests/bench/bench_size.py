"""Small code beside fast code on devices: bytes of flash, and instructions that an emulator counts.

    python tests/bench/bench_size.py            `-Os`, the default and `-O3`, over nets and targets
    python tests/bench/bench_size.py --runtime  instructions and cycles of libgcc's functions

Needs `unicorn`; for `--runtime` gcc for these machines. Nothing is timed: the counts are the same
on every machine.
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import ncc
from ncc.driver.cost import Chosen, cost
from ncc.driver.settings import Settings
from ncc.machine.emulator.emulated import Emulated
from ncc.machine.llvm import target

DEVICES = ("cortex-m0", "cortex-m4f", "rv32imc")
EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("fadd fsub fmul fdiv fcmplt fcmpgt fcmple fcmpeq fcmpun fcmpge dadd dsub dmul ddiv dcmplt "
         "dcmpgt dcmple dcmpeq dcmpun dcmpge ui2f ui2d lmul llsl llsr lasr").split()
# The same by GCC's names, of RISC-V.
GCC = {"f": "s", "d": "d"}
FLAGS = {
    "cortex-m0": ["arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m0"],
    "cortex-m3": ["arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m3"],
    "cortex-m4f": ["arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m4", "-mfloat-abi=hard",
                   "-mfpu=fpv4-sp-d16"],
    "rv32imc": ["riscv64-unknown-elf-gcc", "-march=rv32imc", "-mabi=ilp32"]}


def nets():
    """Small ones as devices have them: by name."""
    yield "xor", ncc.load(EXAMPLES / "xor.nal")
    yield "digits", ncc.load(EXAMPLES / "digits.nal")
    for activation in ("tanh", "sigmoid", "relu", "sin", "gelu"):
        yield f"4-8-8-2 {activation}", ncc.new("fcn", 4, 8, 8, 2, activation=activation,
                                               init="xavier", seed=1)
    yield "dag, 40 neurons", ncc.new("dag", 6, 40, 3, edges=160, activation="tanh",
                                     init="xavier", seed=1)
    yield "conv 8x8 4k3 10", ncc.new("conv", "1x8x8", "4k3", 10, init="he", seed=1)
    yield "lstm 2x4 h6", ncc.new("lstm", "2x4", "h6", "o1", init="xavier", seed=1)


def sizes(quick):
    print("| net, target | `-Os` | default | `-O3` | instructions, default : `-O3` | flash |")
    print("| --- | --- | --- | --- | --- | --- |")
    ratios = {}
    for name, net in list(nets())[: 1 if quick else None]:
        for device in DEVICES:
            cards = [cost(Chosen(net.graph, target(device), Settings(
                cache=False, passes={"small": small, "name": "net"}), embed=True).build())
                for small in (True, None, False)]
            counts = [card.functions["forward"].instructions
                      + (card.functions["forward"].runtime_instructions or 0) for card in cards]
            ratios.setdefault(device, []).append(counts[1] / counts[2])
            cells = [f"{card.forms['forward']}, {card.flash:,} B, {count:,}"
                     for card, count in zip(cards, counts, strict=True)]
            print(f"| {name}, {device} | {' | '.join(cells)} | {counts[1] / counts[2]:.2f} | "
                  f"{cards[1].flash / cards[2].flash:.2f} |", flush=True)
    for device, found in ratios.items():
        print(f"{device}: {np.exp(np.mean(np.log(found))):.2f} times the instructions of -O3, at "
              f"most {max(found):.2f}")


def runtime():
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.o"
        for device, command in FLAGS.items():
            names = {f"__aeabi_{name}": name for name in NAMES}
            if device.startswith("rv"):
                names = {gcc_name(name): name for name in NAMES if name != "lasr"}
            subprocess.run([*command, "-r", "-nostdlib", *[f"-Wl,-u,{s}" for s in names],
                            "-o", path, "-x", "c", "/dev/null", "-lgcc"], check=True)
            machine = Emulated(target(device), path.read_bytes())
            found = {}
            for symbol, name in names.items():
                counts = [machine.call(symbol, operands(name, rng)) for _ in range(60)]
                cycles = [c.instructions if c.cycles is None else c.cycles for c in counts]
                found[symbol.removeprefix("__aeabi_")] = (
                    round(np.mean([c.instructions for c in counts])), round(np.mean(cycles)))
            print(device, found)


def gcc_name(name):
    """GCC's of a function by ARM's."""
    if name.startswith("ui2"):
        return f"__floatunsi{GCC[name[3]]}f"
    if name.startswith("l"):
        return {"lmul": "__muldi3", "llsl": "__ashldi3", "llsr": "__lshrdi3"}[name]
    op, of = name[1:], GCC[name[0]]
    if op.startswith("cmp"):
        return f"__{op[3:].replace('un', 'unord')}{of}f2"
    return f"__{op}{of}f3"


def operands(name, rng):
    """Words of arguments."""
    if name.startswith("ui2"):
        return [int(rng.integers(1, 4096))]
    if name.startswith("l"):
        return [*map(int, rng.integers(0, 1 << 32, 2)), int(rng.integers(1, 23)), 0]
    wide = name.startswith("d")
    return list(struct.unpack("<4I" if wide else "<2I", struct.pack(
        "<2d" if wide else "<2f", *rng.normal(size=2))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runtime", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one net")
    args = parser.parse_args()
    runtime() if args.runtime else sizes(args.quick)
