"""Small code beside fast code on devices: bytes of flash, and instructions that an emulator counts.

    python tests/bench/bench_size.py            `-Os` beside `-O3`, over nets and targets
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

DEVICES = ("cortex-m0", "cortex-m3", "cortex-m4f", "cortex-m33", "rv32imc")
EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("fadd fsub fmul fdiv fcmplt fcmpgt fcmple fcmpeq fcmpun fcmpge dadd dsub dmul ddiv dcmplt "
         "dcmpgt dcmple dcmpeq dcmpun dcmpge ui2f ui2d lmul llsl llsr lasr").split()
FLAGS = {"cortex-m0": ["-mcpu=cortex-m0"], "cortex-m3": ["-mcpu=cortex-m3"],
         "cortex-m4f": ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]}


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


def sizes():
    print("| net | target | form | flash -Os | -O3 | instructions -Os | -O3 | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    ratios = {}
    for name, net in nets():
        for device in DEVICES:
            cards = [cost(Chosen(net.graph, target(device), Settings(
                cache=False, passes={"small": small, "name": "net"}), embed=True).build())
                for small in (True, False)]
            counts = [card.functions["forward"].instructions
                      + (card.functions["forward"].runtime_instructions or 0) for card in cards]
            ratios.setdefault(device, []).append(counts[0] / counts[1])
            print(f"| {name} | {device} | {cards[0].forms['forward']}, {cards[1].forms['forward']} "
                  f"| {cards[0].flash:,} | {cards[1].flash:,} | {counts[0]:,} | {counts[1]:,} | "
                  f"{counts[0] / counts[1]:.2f} |", flush=True)
    for device, found in ratios.items():
        print(f"{device}: instructions of -Os are {np.exp(np.mean(np.log(found))):.2f} times those "
              f"of -O3, at most {max(found):.2f}")


def runtime():
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.o"
        for device, flags in FLAGS.items():
            wanted = [f"-Wl,-u,__aeabi_{name}" for name in NAMES]
            subprocess.run(["arm-none-eabi-gcc", "-mthumb", *flags, "-r", "-nostdlib", *wanted,
                            "-o", path, "-x", "c", "/dev/null", "-lgcc"], check=True)
            machine = Emulated(target(device), path.read_bytes())
            found = {}
            for name in NAMES:
                counts = [machine.call(f"__aeabi_{name}", operands(name, rng)) for _ in range(60)]
                found[name] = (round(np.mean([c.instructions for c in counts])),
                               round(np.mean([c.cycles for c in counts])))
            print(device, found)


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
    (runtime if parser.parse_args().runtime else sizes)()
