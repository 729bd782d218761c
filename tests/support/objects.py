"""Objects and headers as the command makes them, and a reader of what an object holds."""

from __future__ import annotations

import struct
import subprocess

import numpy as np

from ncc.cli import main

# Every activation, twice one behind the other.
EVERY = "\n".join(["N 41", "00"] + [f"{k + 1:02x} {k:02x} 00:1" for k in range(0x20)]
                  + [f"{k + 0x21:02x} 00 {k + 1:02x}:1" for k in range(0x20)]) + "\n"
# Every aggregation, ties, constants, a bias of each kind, an input read late.
AGGREGATES = """N 10
00
01
02
03 00 mul 00:0.5,01:1.5,02:-2 +0.25
04 03 mean 00:1,01:1,02:0.3
05 02 max 00:1,01:=-1,02@k:0.75 +@k
06 00 min 00:1,01:1,02:1
07 01 maxabs 00:1,01:-1,02:1
08 05 03:0.1,04:0.2,05:0.3,06:0.4,07:0.5 +0.1
09 00 08:1,00:=1 +=-0.5
0a 02 sumbias 00:0.5,01:0.25,02:-1 +0.3
0b 00 maximum 00:1,01:=-1,02:0.5 +0.2
0c 00 minimum 00:1,01:1,02:1
0d 00 sumbias 09:1,0a:1,0b:0.5,0c:0.25
0e 00 dot 03*04:0.5,00*00:=1,05*0d@k +0.3
0f 00 div 0e:1,07:0.5 +0.1
"""
# What an object defines: with its weights embedded, without, and with --train.
FORWARD = {"net_forward", "net_forward_batch"}
FUNCTIONS = FORWARD | {"net_pack", "net_backward", "net_backward_batch"}
TRAINING = FUNCTIONS | {"net_train_step", "net_train_step_batch"}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
LANGUAGES = {"c": ["gcc", "-std=c99", *WARNINGS], "cpp": ["g++", "-std=c++17", *WARNINGS]}
# The sections of an object that hold code or data, by what may be done with them.
WRITE, ALLOCATED = 1, 2


def build(tmp_path, text, *options, stem="net"):
    """The object's bytes and the header's text, whatever a form that is asked for takes."""
    (tmp_path / f"{stem}.nal").write_text(text)
    out = tmp_path / f"{stem}.o"
    status = main(["build", str(tmp_path / f"{stem}.nal"), "-o", str(out), "--no-limit", *options])
    assert status == 0
    return out.read_bytes(), out.with_suffix(".h").read_text()


def elf(data):
    """(undefined names, defined global names, names of writable sections with something in them)
    of an ELF object, read from the System V ABI's tables."""
    assert data[:4] == b"\x7fELF"
    wide = data[4] == 2
    at, count = (struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]) \
        if wide else (struct.unpack_from("<I", data, 32)[0], struct.unpack_from("<H", data, 48)[0])
    shape, size = ("<IIQQQQIIQQ", 64) if wide else ("<IIIIIIIIII", 40)
    sections = [struct.unpack_from(shape, data, at + size * k) for k in range(count)]
    writable = [s for s in sections if s[2] & WRITE and s[2] & ALLOCATED and s[5]]
    undefined, defined = set(), set()
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        names = sections[section[6]][4]
        for k in range(1, section[5] // (24 if wide else 16)):
            if wide:
                name, info, _, home, _, _ = struct.unpack_from("<IBBHQQ", data, section[4] + k * 24)
            else:
                name, _, _, info, _, home = struct.unpack_from("<IIIBBH", data, section[4] + k * 16)
            text = data[names + name : data.index(b"\0", names + name)].decode()
            if home == 0:
                undefined.add(text)
            elif info >> 4:
                defined.add(text)
    return undefined, defined, writable


def symbols(data):
    """As `elf` of an ELF, Mach-O or COFF object, and what machine it is for, as the format says."""
    if data[:4] == b"\x7fELF":
        return *elf(data), ("elf", struct.unpack_from("<H", data, 18)[0])
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return *macho(data), ("macho", struct.unpack_from("<I", data, 4)[0])
    return *coff(data), ("coff", struct.unpack_from("<H", data, 0)[0])


def macho(data):
    """As `elf` of a 64-bit Mach-O object, by Apple's mach-o/loader.h and nlist.h; names lose the
    underscore that C puts before them."""
    undefined, defined, writable = set(), set(), []
    at, (commands,) = 32, struct.unpack_from("<I", data, 16)
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == 0x19:  # LC_SEGMENT_64
            for k in range(struct.unpack_from("<I", data, at + 64)[0]):
                section = data[at + 72 + 80 * k :][:80]
                size_of = struct.unpack_from("<Q", section, 40)[0]
                if section[16:32].startswith(b"__DATA") and size_of:
                    writable.append(section[:16])
        elif command == 2:  # LC_SYMTAB
            where, count, names, _ = struct.unpack_from("<IIII", data, at + 8)
            for k in range(count):
                name, kind = struct.unpack_from("<IB", data, where + 16 * k)
                if kind & 1:  # N_EXT
                    text = data[names + name : data.index(b"\0", names + name)].decode()
                    (defined if kind & 0x0E else undefined).add(text.removeprefix("_"))
        at += size
    return undefined, defined, writable


def coff(data):
    """As `elf` of a COFF object, by Microsoft's PE format; the constants that any object may bring
    along (`__real@3f800000`) and the mark of its features are left out."""
    sections, _, table, count = struct.unpack_from("<HIII", data, 2)
    names = table + 18 * count
    rows = [struct.unpack_from("<8sIIIIIIHHI", data, 20 + 40 * k) for k in range(sections)]
    writable = [row[0] for row in rows if row[9] >> 31 and row[3] and not row[9] & 0x200]
    undefined, defined = set(), set()
    k = 0
    while k < count:
        raw, value, home, _, kind, more = struct.unpack_from("<8sIhHBB", data, table + 18 * k)
        if raw[:4] == b"\0\0\0\0":
            at = names + struct.unpack_from("<I", raw, 4)[0]
            text = data[at : data.index(b"\0", at)].decode()
        else:
            text = raw.rstrip(b"\0").decode()
        if kind == 2 and "@" not in text:
            (undefined if home == 0 and not value else defined).add(text)
        k += 1 + more
    return undefined, defined, writable


def same(a, b):
    """Equal bits, NaN payloads aside."""
    word = np.uint32 if a.dtype == np.float32 else np.uint64
    assert a.shape == b.shape and a.dtype == b.dtype
    equal = (a.view(word) == b.view(word)) | (np.isnan(a) & np.isnan(b))
    assert equal.all(), (np.argwhere(~equal)[:5].tolist(), a[~equal][:5], b[~equal][:5])


# The beginning of a driver of net.h. With `place` end or start each buffer lies against a page that
# nobody may touch, and what is sealed is only read; with heap they are plain memory.
FENCES = r"""
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "net.h"

static char place;

static size_t pages(size_t size) { return (size + 4095) / 4096 * 4096; }

static void *buffer(size_t size, size_t align, size_t off)
{
    char *base;
    void *p = NULL;
    size_t length = pages(size + off + NET_ALIGN);
    if (size == 0)
        return NULL;
    if (place == 'h') {
        if (posix_memalign(&p, NET_ALIGN, size + off))
            exit(9);
        return (char *)p + off;
    }
    base = (char *)mmap(NULL, length + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);
    if (base == (char *)MAP_FAILED || mprotect(base, 4096, PROT_NONE)
        || mprotect(base + 4096 + length, 4096, PROT_NONE))
        exit(9);
    memset(base + 4096, 0xFF, length);
    if (place == 's')
        return base + 4096 + off;
    return base + 4096 + length - (size + align - 1) / align * align - off;
}

static void seal(const void *p, size_t size)
{
    size_t first = (size_t)p / 4096 * 4096, last = pages((size_t)p + size);
    if (place != 'h' && size && mprotect((void *)first, last - first, PROT_READ))
        exit(9);
}

static void get(void *p, size_t size, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || (size && fread(p, 1, size, file) != size))
        exit(8);
    fclose(file);
}
"""


def compile_with(tmp_path, source, objects, language="c", *flags):
    path = tmp_path / f"main.{language}"
    path.write_text(source)
    done = subprocess.run(
        [*LANGUAGES[language], "-g", "-O1", *flags, str(path),
         *[str(tmp_path / o) for o in objects], "-o", str(tmp_path / "main")],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(tmp_path, *arguments, under=()):
    done = subprocess.run([*under, str(tmp_path / "main"), *map(str, arguments)], cwd=tmp_path,
                          capture_output=True, timeout=120)
    assert done.returncode == 0, (arguments, done.returncode, done.stderr[-3000:])
    return done.stdout
