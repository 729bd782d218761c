"""Programs for other machines, run in a simulator where one is at hand."""

from __future__ import annotations

import shutil
import subprocess

import pytest

# A program without a C library: what it needs is in it, the results go to a system call.
SYSTEM = r"""
static long call(long number, long a, long b, long c)
{
#if defined(__i386__)
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
#elif defined(__x86_64__)
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long n __asm__("x8") = number, r __asm__("x0") = a, p __asm__("x1") = b;
    register long s __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(r) : "r"(n), "r"(p), "r"(s) : "memory");
#elif defined(__arm__)
    register long n __asm__("r7") = number, r __asm__("r0") = a, p __asm__("r1") = b;
    register long s __asm__("r2") = c;
    __asm__ volatile("svc 0" : "+r"(r) : "r"(n), "r"(p), "r"(s) : "memory");
#else
    register long n __asm__("a7") = number, r __asm__("a0") = a, p __asm__("a1") = b;
    register long s __asm__("a2") = c;
    __asm__ volatile("ecall" : "+r"(r) : "r"(n), "r"(p), "r"(s) : "memory");
#endif
    return r;
}

#if defined(__arm__) || defined(__i386__)
enum { WRITE = 4, EXIT = 1 };
#elif defined(__x86_64__)
enum { WRITE = 1, EXIT = 60 };
#else
enum { WRITE = 64, EXIT = 93 };
#endif

static void put(const void *p, long size)
{
    long done = 0;
    while (done < size)
        done += call(WRITE, 1, (long)((const char *)p + done), size - done);
}

#if defined(__i386__) || defined(__x86_64__)
__attribute__((force_align_arg_pointer))
#endif
void _start(void);
"""

ARM = ("arm-none-eabi-gcc", "qemu-arm")
# Target: compiler, simulator, the compiler's flags, the simulator's. RISC-V without relaxing, as
# nobody sets its global pointer here; Cortex-M code on an A core, which runs the same instructions,
# as qemu-arm's own M cores (7.2) fail before the first of them.
RUNS = {
    "aarch64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", [], []),
    "rv64gc": ("riscv64-linux-gnu-gcc", "qemu-riscv64", ["-Wl,--no-relax"], []),
    "rv32imac": ("riscv64-unknown-elf-gcc", "qemu-riscv32", 
                 ["-march=rv32imac", "-mabi=ilp32", "-Wl,--no-relax"], []),
    "rv32imc": ("riscv64-unknown-elf-gcc", "qemu-riscv32",
                ["-march=rv32imc", "-mabi=ilp32", "-Wl,--no-relax"], []),
    "i686": ("gcc", "qemu-i386", ["-m32", "-msse2", "-fno-pie", "-no-pie", "-fcf-protection=none",
                                  "-maccumulate-outgoing-args"], []),
    "armv7-a": (*ARM, ["-march=armv7-a", "-mfloat-abi=hard", "-mfpu=vfpv3-d16", "-marm"], []),
    "cortex-m0": (*ARM, ["-mcpu=cortex-m0"], ["-cpu", "max"]),
    "cortex-m3": (*ARM, ["-mcpu=cortex-m3"], ["-cpu", "max"]),
    "cortex-m4": (*ARM, ["-mcpu=cortex-m4", "-mfloat-abi=soft"], ["-cpu", "max"]),
    "cortex-m7": (*ARM, ["-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16"],
                  ["-cpu", "max"]),
    "cortex-m4f": (*ARM, ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"],
                   ["-cpu", "max"]),
    "cortex-m33": (*ARM, ["-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"],
                   ["-cpu", "max"]),
}


# This machine needs no simulator.
HERE = {name: ("gcc", "env", ["-fno-pie", "-no-pie", "-maccumulate-outgoing-args"], [])
        for name in ("x86-64", "x86-64-v3", "x86-64-v4")}


def bits(name, array):
    """A C array of the bits of a numpy array."""
    word = "unsigned int" if array.itemsize == 4 else "unsigned long long"
    raw = array.reshape(-1).view(f"<u{array.itemsize}").tolist() or [0]
    return f"static const {word} {name}[] = {{{','.join([f'0x{v:x}u' for v in raw])}}};\n"


def tools(name):
    """The compiler, the simulator and their flags; a test is skipped without them."""
    found = {**RUNS, **HERE}[name]
    for tool in found[:2]:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    return found


def simulated(folder, name, *sources):
    """What a program of C files and objects in the folder writes in the simulator."""
    compiler, simulator, flags, more = tools(name)
    program = folder / "program"
    done = subprocess.run(
        [compiler, "-O1", "-fno-strict-aliasing", "-ffreestanding", "-nostdlib", "-static", *flags,
         *[str(folder / source) for source in sources], *["-lgcc"] * (name != "i686"),
         "-o", str(program)],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([simulator, *more, str(program)], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
