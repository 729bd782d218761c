"""The symbolic weight blocks: the seed's FCN, names of larger nets."""

from __future__ import annotations

from pathlib import Path

import ncc
from ncc.report.weights import weights

SEED = Path(__file__).parents[1] / "seed"


def test_a_small_net_has_letters():
    assert weights(ncc.parse("N 03\n00\n01\n02 relu 00,01 +\n").graph) == """\
a b c
a ____ ____ __ac
b ____ ____ __bc
c ____ ____ ____

a b c
a _____ _____ +a*ac
b _____ _____ +b*bc
c _____ _____ _____
"""


def test_the_last_value_has_a_row():
    text = weights(ncc.parse("N 02\n00\n01 relu 00,~01\n").graph)
    assert text.split("\n\n")[1] == """\
a b ~b
a _____ +a*ab _____
b _____ _____ _____
~b _____ +~b*~bb _____
"""


def test_the_blocks_of_the_seeds_fcn():
    graph = ncc.load(SEED / "fcn_4_4_4_2.nam").graph
    names = "abcdefghijklmn"
    blocks = weights(graph).split("\n\n")
    layers = ("abcd", "efgh", "ijkl", "mn")
    for block, blank, cell in zip(blocks, ("____", "_____"), ("__{0}{1}", "+{0}*{0}{1}"),
                                  strict=True):
        head, *rows = block.rstrip("\n").split("\n")
        assert head == " ".join(names)
        for i, row in zip(names, rows, strict=True):
            joined = {j for a, b in zip(layers, layers[1:], strict=False) if i in a for j in b}
            assert row.split(" ") == [i, *(cell.format(i, j) if j in joined else blank
                                           for j in names)]


def test_a_larger_net_has_indices(ncc_, tmp_path):
    graph = ncc.load(SEED / "fcn_8_8_8_2.nam").graph  # 26 neurons: the last one is z
    assert weights(graph).split("\n")[0].endswith(" y z")
    path = tmp_path / "net.nal"
    path.write_text("N 1b\n" + "".join(f"{k:02x}\n" for k in range(26)) + "1a relu 00,19\n")
    status, out, _ = ncc_("build", path, "--emit", "weights")
    rows = out.split("\n")
    assert status == 0 and rows[0].startswith("n00 n01 ") and rows[0].endswith(" n1a")
    assert rows[1] == "n00 " + "_______ " * 26 + "__w001a"
    assert rows[1 + 29] == "n00 " + "__________ " * 26 + "+n00*w001a"
