"""Images that were tampered with are refused, or evaluated within their memory: under fences, and
under the sanitizers of addresses and of undefined behaviour."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from engines import emitted, images, nets, run, written

from ncc.driver.engine_check import check_text
from ncc.images.check import NUMBER
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import Machine, host
from ncc.machine.targets import TARGETS
from ncc.passes.emit.to_c import to_c

FUZZ = Path(__file__).with_name("fuzz.c")
PLAIN = replace(TARGETS["x86-64"], vector_bits=0)  # whose text an older LLVM takes, too
SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

pytestmark = pytest.mark.skipif(not host().triple.startswith("x86_64"), reason="needs x86-64")


def fenced(folder, kinds, dtype):
    """The object as it is for this machine, between pages that nobody may touch."""
    written(folder, emitted(kinds, dtype))
    return ["gcc", "-g", "-O1", "-DFENCED"], ["net.o"]


def sanitized(folder, kinds, dtype):
    """The text of the whole object, instrumented by clang for the runtime that gcc has, too."""
    engine = emitted(kinds, dtype, PLAIN)
    written(folder, engine)
    text = re.sub(r"(?m)^(attributes #[02] = \{)", r"\1 sanitize_address", engine.llvm)
    assert text.count("sanitize_address") == 2
    (folder / "net.ll").write_text(text.replace("memory(none)", "readnone"))
    version = int(re.search(rb"version (\d+)", run("clang", "--version"))[1])
    run("clang", *["-mllvm", "-opaque-pointers"] * (version < 15), "-fsanitize=address", "-O1",
        "-c", "-x", "ir", "net.ll", "-o", "net.o", cwd=folder)
    assert b"__asan_report_load4" in run("nm", "net.o", cwd=folder)
    return ["gcc", *SANITIZERS], ["net.o"]


def in_c(folder, kinds, dtype):
    """The functions as C, which both sanitizers watch, beside the object's check."""
    engine = emitted(kinds, dtype, PLAIN)
    written(folder, engine)
    (folder / "net.c").write_text(to_c(engine.build.module))
    text = check_text("net", kinds, dtype, lanes=engine.lanes, index_bits=64, elf=True)
    (folder / "net.o").write_bytes(Machine(PLAIN).object(f"{text}attributes #2 = {{ nounwind }}\n"))
    return ["gcc", *SANITIZERS], ["net.c", "net.o", "-lm"]


def fuzz(folder, how, dtype, seeds, rounds, seed, max_neurons=24):
    kinds, made = images(nets(seeds, max_neurons), dtype)
    compiler, sources = how(folder, kinds, dtype)
    (folder / "fuzz.c").write_text(FUZZ.read_text())
    run(*compiler, "-Wall", "-Wextra", f"-DREAL={'float' if dtype == 'f32' else 'double'}",
        "fuzz.c", *sources, "-o", "fuzz", cwd=folder)
    names = [f"{k}.image" for k in range(len(made))]
    for name, block in zip(names, made, strict=True):
        block.tofile(folder / name)
    *answers, left_out = map(int, run("./fuzz", rounds, seed, *names, cwd=folder).split())
    assert sum(answers) == rounds
    # Some are still images, and most of these have been evaluated.
    assert answers[0] > rounds // 50 and left_out < answers[0] // 2
    met = {name for name, number in NUMBER.items() if answers[number]}
    assert met == {*NUMBER} - {"POINTER"}


@pytest.mark.parametrize("how", [fenced, sanitized, in_c])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.each_choice
def test_no_image_leads_out_of_its_memory(tmp_path, dtype, how):
    fuzz(tmp_path, how, dtype, range(40, 60), 6000, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
@pytest.mark.parametrize("how", [fenced, sanitized, in_c])
@pytest.mark.parametrize("dtype", DTYPES)
def test_none_of_many_more_does(tmp_path, dtype, how, seed):
    fuzz(tmp_path, how, dtype, range(100 * seed, 100 * seed + 30), 30_000, seed, 60)
