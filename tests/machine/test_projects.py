"""Folders for Arduino, CMake and Zephyr: built as they are, by these tools or what stands for them,
and run; and what they do not overwrite."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from devices import done, needs
from nets import random_layers

import ncc
from ncc.cli import main
from ncc.machine.projects.project import MARK

ROOT = Path(__file__).parents[2]
XOR = """N 05
00
01
02 tanh 00:-3.0139,01:3.0147 +-1.698
03 tanh 00:3.0138,01:-3.0136 +-1.6974
04 sigmoid 02:6.4375,03:6.4376 +6.449
"""
LAYERS = random_layers([4, 9, 3], 4, seed=3, activation="gelu", weights=True)
CELL = "N 04\n00\n01\n02 tanh 00:0.5,01:-1,~02:0.75,~03:0.5 +0.1\n03 identity mean 02:1.5,~00:1\n"


def emitted(folder, kind, text, *options, status=0):
    """What the files of a folder hold, by their paths in it."""
    (folder / "gate.nal").write_text(text)
    assert main(["build", str(folder / "gate.nal"), "--emit", kind, "-o", str(folder / kind),
                 *options]) == status
    return {str(path.relative_to(folder / kind)): path.read_bytes()
            for path in (folder / kind).rglob("*") if path.is_file()}


# ---- cmake


@pytest.mark.parametrize(("text", "options"), [
    (LAYERS, []),
    *[pytest.param(*case, marks=pytest.mark.slow) for case in (
        (LAYERS, ["--target", "native"]), (XOR, ["--train", "mse,adam", "--numerics", "strict"]),
        (CELL, ["--dtype", "f64"]), (LAYERS, ["--form", "table", "--backward"]))],
])
def test_cmake_builds_a_program_that_gives_the_bits_of_python(tmp_path, text, options):
    needs("cmake", "gcc")
    emitted(tmp_path, "cmake", text, *options)
    net = ncc.parse(text)
    f64 = "f64" in options
    x = np.random.default_rng(2).uniform(-2, 2, (9, len(net.inputs)))
    x = x.astype(np.float64 if f64 else np.float32)
    done("cmake", "-S", "cmake", "-B", "build",
         "-DCMAKE_C_FLAGS=-O1 -Wall -Wextra -Wpedantic -Wconversion -Werror", folder=tmp_path)
    done("cmake", "--build", "build", folder=tmp_path)
    (tmp_path / "x.csv").write_text("\n".join([",".join(map(repr, row)) for row in x.tolist()]))
    said = done("sh", "-c", "./build/gate-run < x.csv", folder=tmp_path)
    fn = ncc.compile(net, dtype="f64" if f64 else "f32", tier="now",
                     numerics="strict" if "strict" in options else None)
    y = np.array([fn(row) for row in x]) if "~" in text else fn(x)
    found = np.array([line.split(",") for line in said.splitlines()], np.float64)
    assert (found.astype(y.dtype) == y).all()


@pytest.mark.slow
def test_cmakes_package_and_pkg_config_lead_to_the_library(tmp_path):
    needs("cmake", "gcc", "pkg-config")
    emitted(tmp_path, "cmake", XOR)
    done("cmake", "-S", "cmake", "-B", "build", folder=tmp_path)
    done("cmake", "--build", "build", folder=tmp_path)
    done("cmake", "--install", "build", "--prefix", tmp_path / "there", folder=tmp_path)
    (tmp_path / "there").rename(tmp_path / "moved")
    use = tmp_path / "use"
    use.mkdir()
    (use / "use.c").write_text("#include <stdio.h>\n#include <gate.h>\nint main(void) {\n"
                               "const float x[2] = {0, 1}; float y[1]; gate_forward(x, y, NULL);\n"
                               'printf("%.3f\\n", (double)y[0]); return 0; }\n')
    (use / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(use C)\n"
        "if(SUB)\nadd_subdirectory(../cmake gate)\nelse()\nfind_package(gate REQUIRED)\nendif()\n"
        "add_executable(use use.c)\ntarget_link_libraries(use PRIVATE gate::gate)\n")
    for more in (f"-DCMAKE_PREFIX_PATH={tmp_path}/moved", "-DSUB=ON"):
        done("cmake", "-S", "use", "-B", f"b{more[2]}", more, folder=tmp_path)
        done("cmake", "--build", f"b{more[2]}", folder=tmp_path)
        assert done(f"./b{more[2]}/use", folder=tmp_path) == "0.996\n"
    done("sh", "-c", f"PKG_CONFIG_PATH=$(dirname $(find {tmp_path}/moved -name gate.pc)); "
         "export PKG_CONFIG_PATH; gcc use/use.c $(pkg-config --cflags --libs gate) -o said",
         folder=tmp_path)
    assert done("./said", folder=tmp_path) == "0.996\n"


# ---- arduino

STUB = """#include <math.h>
#include <stdio.h>
#include <stdlib.h>
struct Port {
    void begin(long) {}
    void println(double value, int digits) { printf("%.*f\\n", digits, value); }
};
static Port Serial;
static void delay(int) { exit(0); }
"""


@pytest.mark.parametrize(("text", "options"), [(XOR, []), (CELL, ["--train", "mse,adam"])][:1] + [
    (LAYERS, ["--train", "mse,adam"])])
def test_an_arduino_library_compiles_and_says_what_the_net_does(tmp_path, text, options):
    """With gcc, where Arduino.h is a stub."""
    needs("gcc", "g++")
    files = emitted(tmp_path, "arduino", text, *options)
    properties = dict(line.split("=", 1) for line in
                      files["library.properties"].decode().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url",
            "architectures"} <= set(properties) and properties["includes"] == "gate.h"
    (tmp_path / "Arduino.h").write_text(STUB)
    (tmp_path / "main.cpp").write_text('#include <Arduino.h>\n#include "arduino/examples/gate/'
                                       'gate.ino"\nint main() { setup(); for (;;) loop(); }\n')
    done("gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-c", "arduino/src/gate.c",
         folder=tmp_path)
    done("g++", "-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-I.", "-Iarduino/src", "main.cpp",
         "gate.o", "-o", "run", folder=tmp_path)
    net = ncc.parse(text)
    y = ncc.compile(net, numerics="strict", tier="now")(np.full(len(net.inputs), 0.5, np.float32))
    assert done("./run", folder=tmp_path).split() == [f"{v:.6f}" for v in y.tolist()]


@pytest.mark.slow
def test_arduinos_own_builder_builds_it_and_an_uno_runs_it(tmp_path):
    needs("arduino-builder", "avr-gcc", "simavr")
    emitted(tmp_path, "arduino", XOR)
    (tmp_path / "libraries").mkdir()
    shutil.copytree(tmp_path / "arduino", tmp_path / "libraries/gate")
    (tmp_path / "build").mkdir()
    top = "/usr/share/arduino"
    # Debian's compiler is older than its core, and has not this limit.
    said = done("arduino-builder", "-compile", "-hardware", f"{top}/hardware", "-hardware",
                f"{top}-builder", "-tools", "/usr/bin", "-libraries", "libraries", "-fqbn",
                "arduino:avr:uno", "-build-path", tmp_path / "build", "-prefs",
                "compiler.cpp.extra_flags=-DDECIMAL_DIG=9",
                "arduino/examples/gate/gate.ino", folder=tmp_path)
    assert int(re.search(r"Sketch uses (\d+) bytes", said)[1]) < 8000
    shown = done("sh", "-c", "timeout 5 simavr -m atmega328p -f 16000000 build/gate.ino.elf 2>&1 "
                 "| head -n 5", folder=tmp_path)
    assert re.search(r"m0\.003720\.", shown), shown


# ---- zephyr

# What Zephyr's package does with a sample and the modules that it names, as far as these need it;
# the program is this machine's.
ZEPHYR = r"""
file(READ ${CMAKE_CURRENT_SOURCE_DIR}/prj.conf conf)
string(REGEX MATCHALL "CONFIG_[A-Z0-9_]+=y" set "${conf}")
foreach(one ${set})
    string(REPLACE "=y" "" one ${one})
    set(${one} y)
endforeach()
add_library(app OBJECT)
function(zephyr_library_named name)
    add_library(${name} STATIC)
    set(ZEPHYR_CURRENT_LIBRARY ${name} PARENT_SCOPE)
    set_property(GLOBAL APPEND PROPERTY ZEPHYR_LIBS ${name})
endfunction()
function(zephyr_library_sources)
    target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
    target_include_directories(app PRIVATE ${ARGN})
endfunction()
enable_language(C)
foreach(module ${EXTRA_ZEPHYR_MODULES})
    file(READ ${module}/zephyr/module.yml said)
    string(REGEX MATCH "cmake: ([a-z]+)" _ "${said}")
    string(REGEX MATCH "name: ([a-z]+)" _name "${said}")
    string(REGEX REPLACE ".*cmake: ([a-z]+).*" "\\1" folder "${said}")
    if(NOT EXISTS ${module}/zephyr/Kconfig)
        message(FATAL_ERROR "no Kconfig")
    endif()
    add_subdirectory(${module}/${folder} modules)
endforeach()
get_property(libs GLOBAL PROPERTY ZEPHYR_LIBS)
add_executable(zephyr $<TARGET_OBJECTS:app>)
target_link_libraries(zephyr PRIVATE ${libs})
"""


def test_a_zephyr_module_is_built_into_its_sample(tmp_path):
    """By CMake itself, where Zephyr's package is a stub."""
    needs("cmake", "gcc")
    files = emitted(tmp_path, "zephyr", LAYERS)
    assert b"config NCC_GATE\n" in files["zephyr/Kconfig"]
    assert b"CONFIG_NCC_GATE=y" in files["samples/gate/prj.conf"]
    (tmp_path / "zephyr-package").mkdir()
    (tmp_path / "zephyr-package/ZephyrConfig.cmake").write_text(ZEPHYR)
    done("cmake", "-S", "zephyr/samples/gate", "-B", "build",
         f"-DZephyr_DIR={tmp_path}/zephyr-package", folder=tmp_path)
    done("cmake", "--build", "build", folder=tmp_path)
    y = ncc.compile(ncc.parse(LAYERS), numerics="strict", tier="now")(np.full(4, 0.5, np.float32))
    found = np.array(done("./build/zephyr", folder=tmp_path).split(), np.float64)
    assert (found.astype(np.float32) == y).all()


# ---- boards


@pytest.mark.slow
def test_the_boards_of_the_examples_give_the_bits_of_this_machine(tmp_path):
    needs("make", "gcc", "avr-gcc", "simavr", "arm-none-eabi-gcc", "qemu-system-arm")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    said = done("make", "check", f"NCC={sys.executable} -m ncc",
                folder=tmp_path / "examples/embed/board")
    assert "AVR: same bits" in said and "Cortex-M0: same bits" in said
    xor = ncc.compile(ncc.load(ROOT / "examples/xor.nal"), numerics="strict", tier="now")
    y = xor(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    bits = (tmp_path / "examples/embed/board/bits").read_text().split()
    assert len(bits) == 14 and bits[10:] == [f"{v:08x}" for v in y.view(np.uint32).ravel()]


# ---- what is written


@pytest.mark.parametrize("kind", ["arduino", "cmake", "zephyr"])
def test_a_folder_is_the_same_again_and_nothing_else_is_overwritten(tmp_path, capfd, kind):
    first = emitted(tmp_path, kind, XOR)
    assert emitted(tmp_path, kind, XOR) == first  # over what ncc wrote
    (tmp_path / "other").mkdir()
    assert emitted(tmp_path / "other", kind, XOR) == first
    changed = emitted(tmp_path, kind, XOR.replace("6.449", "6.5"))
    source = next(name for name in first if name.endswith("gate.c"))
    assert changed.keys() == first.keys() and changed[source] != first[source]
    capfd.readouterr()
    edited = next(name for name in first if name.endswith((".ino", "run.c", "main.c")))
    (tmp_path / kind / edited).write_text("mine")
    kept = emitted(tmp_path, kind, XOR, status=2)
    assert kept == {**changed, edited: b"mine"}
    assert f"{edited} is not as ncc wrote it" in capfd.readouterr().err
    (tmp_path / kind / edited).unlink()
    assert emitted(tmp_path, kind, XOR) == first
    assert emitted(tmp_path, kind, XOR, "--name", "other", status=2) == first
    assert "another folder" in capfd.readouterr().err
    foreign = tmp_path / "foreign" / kind
    foreign.mkdir(parents=True)
    (foreign / source).parent.mkdir(exist_ok=True)
    (foreign / source).write_text("theirs")
    assert set(emitted(tmp_path / "foreign", kind, XOR, status=2)) == {source}
    assert MARK in first


@pytest.mark.parametrize(("options", "code"), [
    (["--emit", "arduino,c"], "E604"), (["--emit", "arduino", "-o", "-"], "E608"),
    (["--emit", "arduino", "--target", "avr"], "E604"),
    (["--emit", "zephyr", "-o", "gate.nal"], "E608"),
    (["--emit", "cmake", "--target", "xtensa"], "E610"),
])
def test_what_a_folder_is_not(tmp_path, monkeypatch, capfd, options, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.nal").write_text(XOR)
    assert main(["build", "gate.nal", *options]) == 2
    assert code in capfd.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"gate.nal"}


def test_where_a_folder_goes_and_what_is_without_values(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.nal").write_text(XOR)
    assert main(["build", "gate.nal", "--emit", "arduino"]) == 0
    assert "5 files in gate-arduino" in capfd.readouterr().err
    (tmp_path / "bare.nal").write_text("N 03\n00\n01\n02 tanh 00,01 +\n")
    for more in ([], ["--train", "mse,sgd"]):
        assert main(["build", "bare.nal", "--emit", "arduino", *more]) == 1
        assert "E607" in capfd.readouterr().err
    assert not (tmp_path / "bare-arduino").exists()
