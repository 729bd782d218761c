"""The example of nets that arrive in the field, here and in a simulator."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from engines import run
from objects import LANGUAGES

import ncc
from ncc.cli import main

EMBED = Path(__file__).parents[2] / "examples" / "embed"
# What neat-python 2.0.0 answers for these genomes, by its own activate().
NEAT = {"young": [0.0815316859, 0.9960086869, 0.9925196414, 0.9999973190],
        "grown": [3.5204218e-07, 0.9997889800, 0.9809976528, 2.6294349e-06]}
X = [[0, 0], [0, 1], [1, 0], [1, 1]]
MACHINES = {
    "here": (LANGUAGES["c"], []), "as C++": (LANGUAGES["cpp"], []),
    "aarch64": (["aarch64-linux-gnu-gcc", *LANGUAGES["c"][1:], "-static"], ["qemu-aarch64"]),
}


@pytest.mark.parametrize("name", NEAT)
def test_the_nets_are_what_the_tool_evolved(name):
    y = ncc.compile(ncc.load(EMBED / f"{name}.nal"), dtype="f64")(np.array(X, float))[:, 0]
    assert y == pytest.approx(NEAT[name], rel=1e-6)


@pytest.mark.parametrize("machine", MACHINES)
def test_nets_arrive_and_damaged_ones_are_refused(tmp_path, monkeypatch, machine):
    compiler, simulator = MACHINES[machine]
    for tool in [compiler[0], *simulator]:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    monkeypatch.chdir(tmp_path)
    kinds = str(EMBED / "brain.kinds")
    aim = ["--target", "aarch64"] if simulator else ["--cpu", "x86-64"]
    assert main(["build", "--emit", "engine", "--kinds", kinds, "--name", "brain",
                 "-o", "brain.o", *aim]) == 0
    for name in NEAT:
        assert main(["build", str(EMBED / f"{name}.nal"), "--emit", "image",
                     "--kinds", kinds]) == 0
    source = shutil.copy(EMBED / "field.c", "field.cpp" if "g++" in compiler else "field.c")
    run(*compiler, "-I.", source, "brain.o", "-o", "field")
    said = run(*simulator, "./field", "young.image", "grown.image").decode()
    assert said.count("refused, reason 6\n") == 2
    answers = [float(y) for y in re.findall(r"= ([\d.]+)$", said, re.MULTILINE)]
    assert answers == pytest.approx([*NEAT["young"], *NEAT["grown"]], abs=1e-4)
