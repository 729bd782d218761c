"""Objects and headers as the command makes them, and a reader of what an object holds."""

from __future__ import annotations

import struct

import numpy as np

from ncc.cli import main

# Every activation, twice one behind the other.
EVERY = "\n".join(["N 41", "00"] + [f"{k + 1:02x} {k:02x} 00:1" for k in range(0x20)]
                  + [f"{k + 0x21:02x} 00 {k + 1:02x}:1" for k in range(0x20)]) + "\n"
# Every aggregation, ties, constants, a bias of each kind, an input read late.
AGGREGATES = """N 0a
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
"""
# What an object defines: with its weights embedded, and without.
FORWARD = {"net_forward", "net_forward_batch"}
FUNCTIONS = FORWARD | {"net_pack", "net_backward", "net_backward_batch"}
# The sections of an object that hold code or data, by what may be done with them.
WRITE, ALLOCATED = 1, 2


def build(tmp_path, text, *options, stem="net"):
    """The object's bytes and the header's text."""
    (tmp_path / f"{stem}.nal").write_text(text)
    out = tmp_path / f"{stem}.o"
    status = main(["build", str(tmp_path / f"{stem}.nal"), "-o", str(out), *options])
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


def same(a, b):
    """Equal bits, NaN payloads aside."""
    word = np.uint32 if a.dtype == np.float32 else np.uint64
    assert a.shape == b.shape and a.dtype == b.dtype
    equal = (a.view(word) == b.view(word)) | (np.isnan(a) & np.isnan(b))
    assert equal.all(), (np.argwhere(~equal)[:5].tolist(), a[~equal][:5], b[~equal][:5])
