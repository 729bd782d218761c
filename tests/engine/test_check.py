"""What is no image is refused: by numpy and by the object alike, and for the same reason."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from engines import FULL, aligned, emitted, images, nets, resealed, run, tampered, written

import ncc
from ncc.errors import NccError
from ncc.images.check import NUMBER, REASONS, checked, most_values, reason
from ncc.images.image import AT, image
from ncc.images.kinds import Kind, Kinds, kinds_of
from ncc.machine.llvm import host

TEXT = "N 07\n00\n01\n02 tanh 00:1,01:2\n03 relu mean 02:3,00:=4 +5\n04 00 max 02:1,03:1\n" \
    "05 tanh 04:1\n06 tanh +3\n"


class Both:
    """The two checks of an engine's; both are asked, and agree."""

    def __init__(self, folder, kinds, dtype):
        self.kinds, self.dtype = kinds, dtype
        made = emitted(kinds, dtype)
        self.most = most_values(dtype, made.lanes, 64)
        # Of one name a process loads one library.
        library = folder / f"{len(list(folder.glob('*.so')))}.so"
        run("gcc", "-shared", "-o", library, written(folder, made))
        self.call = ctypes.CDLL(str(library)).net_engine_check
        self.call.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def __call__(self, block):
        """The name of the reason, '' of a good image."""
        found = self.call(block.ctypes.data, len(block))
        assert found == reason(block, self.kinds, self.dtype, self.most), (
            found, block[: 4 * len(AT)].view(np.uint32) if len(block) >= 4 * len(AT) else block)
        return REASONS[found - 1].name if found else ""


@pytest.fixture(scope="module", params=["f32", "f64"])
def small(request, tmp_path_factory):
    """The checks, and the image of a small net with a row of each sort."""
    graph = ncc.parse(TEXT).graph
    both = Both(tmp_path_factory.mktemp("small"), kinds_of([graph]), request.param)
    return both, image(graph, both.kinds, request.param, graph.values)


def test_good_images_pass_whatever_is_behind_them(small):
    both, good = small
    assert both(aligned(good)) == ""
    assert both(aligned(np.concatenate([good, good]))) == ""


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_images_of_random_nets_pass(tmp_path, dtype):
    kinds, made = images([*nets(range(60)), ncc.parse("N 02\nout 00,01\n00\n01\n").graph], dtype)
    both = Both(tmp_path, kinds, dtype)
    for block in made:
        assert both(aligned(block)) == ""


def test_a_pointer_is_aligned_and_is_one(small):
    both, good = small
    room = aligned(np.zeros(len(good) + 64, np.uint8))
    for off in (1, 4, 8, 32):
        room[off : off + len(good)] = good
        assert both(room[off:]) == "POINTER"
    assert both.call(None, len(good)) == NUMBER["POINTER"]


def forged(good, changes, seal=True):
    block = aligned(good)
    words = block.view(np.uint32)
    for at, value in changes.items():
        words[AT[at] if isinstance(at, str) else at] = int(value) & FULL
    return resealed(block) if seal else block


@pytest.mark.parametrize("changes, wanted", [
    ({"magic": 0}, "MAGIC"), ({"version": 2}, "VERSION"), ({"dtype": 3}, "DTYPE"),
    ({"size": 0}, "SIZE"), ({"size": FULL}, "SIZE"), ({"size": -64}, "SIZE"),
    ({"size": 1 << 31}, "SIZE"), ({"size": 64}, "SIZE"),
    ({"kinds": 1}, "KINDS"), ({"n_kinds": 2}, "KINDS"), ({"n_kinds": FULL}, "KINDS"),
    # counts whose sum, or product, is small again in 32 bits
    ({"levels": FULL}, "PARTS"), ({"levels": (1 << 32) // 3}, "PARTS"),
    ({"levels": 1431655764}, "PARTS"), ({"levels": (1 << 32) // 3 + 1}, "PARTS"),
    ({"rows": FULL}, "PARTS"), ({"rows": FULL - 1}, "PARTS"), ({"rows": 1 << 31}, "PARTS"),
    ({"edges": FULL}, "PARTS"), ({"edges": 1 << 30}, "PARTS"), ({"outputs": FULL}, "PARTS"),
    # parts that wrap around, or lie on one another, or on the head
    ({"bounds": FULL}, "PARTS"), ({"bounds": -10}, "PARTS"), ({"bounds": 0}, "PARTS"),
    ({"starts": -3}, "PARTS"), ({"starts": 32}, "PARTS"), ({"sources": 33}, "PARTS"),
    ({"outs": 1 << 30}, "PARTS"), ({"outs": -1}, "PARTS"), ({"weights": -2}, "PARTS"),
    ({"biases": 16}, "PARTS"), ({"weights": 1 << 29}, "PARTS"), ({"biases": FULL}, "PARTS"),
    ({"inputs": FULL}, "VALUES"), ({"inputs": FULL - 4}, "VALUES"),
    # values that are not there, or not yet
    ({"inputs": 1}, "SOURCES"),
])
def test_a_forged_head_is_refused(small, changes, wanted):
    both, good = small
    assert both(forged(good, changes)) == wanted


def test_forged_indices_are_refused(small):
    both, good = small
    words = aligned(good).view(np.uint32)
    bounds, starts, sources, outs = [int(words[AT[k]]) for k in (
        "bounds", "starts", "sources", "outs")]
    rows, edges = int(words[AT["rows"]]), int(words[AT["edges"]])
    for changes, wanted in (
            ({bounds: 1}, "BOUNDS"), ({bounds + 1: FULL}, "BOUNDS"), ({bounds + 1: 3}, "BOUNDS"),
            ({starts - 1: rows - 1}, "BOUNDS"), ({starts - 1: rows + 1}, "BOUNDS"),
            ({"rows": rows - 1}, "BOUNDS"),
            ({starts: 1}, "STARTS"), ({starts + 1: FULL}, "STARTS"),
            ({starts + rows: edges + 1}, "STARTS"), ({starts + rows: edges - 1}, "STARTS"),
            ({starts + 3: 1}, "STARTS"), ({"edges": edges - 1}, "STARTS"),
            ({sources: 3}, "SOURCES"), ({sources: 6}, "SOURCES"), ({sources: FULL}, "SOURCES"),
            ({outs: 2 + rows}, "OUTS"), ({outs: FULL}, "OUTS"), ({outs: 1 << 31}, "OUTS")):
        assert both(forged(good, changes)) == wanted, changes
        assert both(forged(good, changes, seal=False)) == "CHECKSUM"
    # An edge of a row's own level, though of one of its kinds before: 03 is mean, 05 sum.
    at_last = int(np.flatnonzero(words[sources : sources + edges] == int(words[outs]) - 1)[0])
    assert both(forged(good, {sources + at_last: words[outs]})) == "SOURCES"


def test_rows_that_begin_with_an_edge_have_one(tmp_path):
    for aggregation in ("mul", "mean", "max", "min", "maxabs", "div", "sum"):
        graph = ncc.parse(f"N 04\n00\n01 tanh 00:1\n02 relu {aggregation} 01:2 +1\n"
                          "03 tanh 02:1,01:1\n").graph
        both = Both(tmp_path, kinds_of([graph]), "f32")
        good = image(graph, both.kinds, "f32", graph.values)
        starts = good.view(np.uint32)[AT["starts"]]
        made = forged(good, {starts + 1: 1, starts + 2: 1})  # row 1 reads nothing, row 2 one more
        assert both(made) == ("" if aggregation == "sum" else "EDGES")


def test_rows_of_pairs_have_whole_pairs(tmp_path):
    graph = ncc.parse("N 04\n00\n01 tanh dot 00*00:2,00*00:3\n02 relu 01:2,00:1\n"
                      "03 tanh dot 01*00:2\n").graph
    both = Both(tmp_path, kinds_of([graph]), "f32")
    good = image(graph, both.kinds, "f32", graph.values)
    words = good.view(np.uint32)
    starts, rows = words[AT["starts"]], int(words[AT["rows"]])
    assert both(aligned(good)) == "" and words[starts : starts + rows + 1].tolist() == [0, 4, 6, 8]
    assert both(forged(good, {starts + 1: 3})) == "EDGES"  # of row 1, a sum, there are more then
    assert both(forged(good, {starts + 2: 7})) == "EDGES"
    assert both(forged(good, {starts + 1: 2})) == ""  # whole pairs, of another net


def test_every_reason_is_met_and_both_checks_agree(tmp_path):
    rng = np.random.default_rng(1)
    kinds, made = images(nets(range(60, 72)), "f32")
    both = Both(tmp_path, kinds, "f32")
    met = {both(tampered(made[k % len(made)], rng)) for k in range(3000)}
    assert met == {"", *NUMBER} - {"POINTER"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", range(3))
def test_both_checks_agree_on_many_more(tmp_path, dtype, seed):
    rng = np.random.default_rng([2, seed])
    kinds, made = images(nets(range(100 * seed, 100 * seed + 20), max_neurons=60), dtype)
    both = Both(tmp_path, kinds, dtype)
    for k in range(30_000):
        both(tampered(made[k % len(made)], rng))


def test_kinds_may_stand_in_any_order(tmp_path):
    """Those that want an edge are several groups then."""
    graph = ncc.parse(TEXT).graph
    kinds = Kinds((Kind("sum", "tanh(x)"), Kind("max", "x"), Kind("sum", "relu(x)"),
                   Kind("mean", "relu(x)")))
    both = Both(tmp_path, kinds, "f32")
    good = image(graph, kinds, "f32", graph.values)
    assert both(aligned(good)) == ""
    rng = np.random.default_rng(3)
    assert "EDGES" in {both(tampered(good, rng)) for _ in range(2000)}


def test_python_says_why_and_gives_memory_that_is_aligned():
    graph = ncc.parse(TEXT).graph
    kinds = kinds_of([graph])
    good = image(graph, kinds, "f32", graph.values)
    data = bytes(3) + good.tobytes() + bytes(100)
    found = checked(memoryview(data)[3:], kinds, "f32")
    assert found.ctypes.data % 64 == 0 and found.tobytes() == good.tobytes()
    with pytest.raises(NccError, match=r"E148.*refused: its checksum is wrong"):
        checked(forged(good, {40: 9}, seal=False).tobytes(), kinds, "f32")
    with pytest.raises(NccError, match=r"E148.*cut short"):
        checked(b"", kinds, "f32")
    with pytest.raises(NccError, match=r"E148.*kinds of rows are not the engine's"):
        checked(good, Kinds((Kind("sum", "x"),)), "f32")


def test_this_machine_has_the_order_of_bytes_that_images_have():
    assert host().triple and np.dtype("<u4") == np.dtype(np.uint32)
