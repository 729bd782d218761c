"""A compiled net as a library: what folders of every build system are written from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncc.errors import NccError
from ncc.ir.graph import Reals

MARK = ".ncc"  # the file that says what ncc wrote into a folder, by SHA-256


@dataclass(frozen=True)
class Project:
    """A net that is a library.

    name, macro     what its C names and macros begin with
    real            "float" or "double"
    about           a line about the net
    header          the text of its header
    code            its C file, behind the header; empty where there is an object
    object          the object instead; empty where there is a C file
    buffers         the parameters of its forward function, in order
    work            bytes that the forward function works in
    params          the canonical parameters; None where they are constants of the code
    math            whether the C file calls the library of mathematics
    """

    name: str
    macro: str
    real: str
    about: str
    header: str
    code: str
    object: bytes
    buffers: tuple[str, ...]
    work: int
    params: Reals | None
    math: bool

    def filled(self, text: str) -> str:
        """A template with @net@, @NET@, @real@ and @about@ filled in, and with the lines of an
        example: @arrays@, @ready@ and @call@."""
        for mark, value in (("arrays", self._arrays()), ("ready", self._ready()),
                            ("call", self._call()), ("net", self.name), ("NET", self.macro),
                            ("real", self.real), ("about", self.about)):
            text = text.replace(f"@{mark}@", value)
        return text

    def sources(self) -> dict[str, str]:
        """The header, the C file and the parameters, by their names."""
        found = {f"{self.name}.h": self.header}
        if self.code:
            found[f"{self.name}.c"] = f'#include "{self.name}.h"\n\n{self.code}'
        if self.params is not None:
            found[f"{self.name}_params.h"] = self._parameters()
        return found

    def _parameters(self) -> str:
        assert self.params is not None
        double = self.real == "double"
        values = self.params.astype(np.float64 if double else np.float32)
        shown = [repr(float(v)) if double else f"{str(v)}f" for v in values] or ["0"]
        lines = ["    " + ", ".join(shown[k : k + 6]) for k in range(0, len(shown), 6)]
        return "\n".join([
            "/* The canonical parameters, which the header describes. */",
            f"#ifndef {self.macro}_PARAMS_H", f"#define {self.macro}_PARAMS_H", "",
            f"static const {self.real} {self.name}_params[{len(shown)}] = {{",
            ",\n".join(lines), "};", "", "#endif", ""])

    def _arrays(self) -> str:
        lines = [f"static {self.real} x[{self.macro}_INPUTS], y[{self.macro}_OUTPUTS];"]
        if self.params is not None:
            lines.append(f"{self.macro}_ALIGNED static {self.real} packed[{self.macro}_PACKED];")
        if "state" in self.buffers:
            lines.append(f"static {self.real} state[{self.macro}_STATES];")
        if self.work:
            lines.append(
                f"{self.macro}_ALIGNED static unsigned char work[{self.macro}_WORK_BYTES];")
        return "\n".join(lines)

    def _ready(self) -> str:
        lines = []
        if self.params is not None:
            lines.append(f"    {self.name}_pack({self.name}_params, packed);")
        if "state" in self.buffers:
            lines.append(f"    {self.name}_reset(state);")
        return "".join([line + "\n" for line in lines])

    def _call(self) -> str:
        passed = [b if b != "work" or self.work else "NULL" for b in self.buffers]
        return f"{self.name}_forward({', '.join(passed)});"

    def includes(self, marks: str = '""') -> str:
        """The lines of an example that include the library, with their names in `marks`."""
        names = [f"{self.name}.h"] + [f"{self.name}_params.h"] * (self.params is not None)
        return "".join([f"#include {marks[0]}{name}{marks[1]}\n" for name in names])


def marked(kind: str, name: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files and the one that says which they are: their kind, the name of the net, and of each
    its SHA-256."""
    lines = [f"{kind} {name}"]
    lines += [f"{hashlib.sha256(data).hexdigest()} {path}" for path, data in sorted(files.items())]
    return {**files, MARK: ("\n".join(lines) + "\n").encode()}


def claim(folder: Path, files: Mapping[str, bytes]) -> None:
    """NccError E608 where the folder has a file that would be overwritten and that is not as ncc
    wrote it, or where it is another project's; E622 where it cannot be read."""
    try:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise NccError("E608", f"{folder} is no folder", help="-o FOLDER")
        mark = folder / MARK
        said = mark.read_text(errors="replace").splitlines() if mark.is_file() else []
        known = {line[65:]: line[:64] for line in said[1:]}
        head = files[MARK].decode().split("\n")[0]
        if said and said[0] != head:
            raise NccError("E608", f"{folder} holds ncc's `{said[0][:80]}`, not `{head}`",
                           help="-o another folder")
        for path, data in files.items():
            file = folder / path
            if path == MARK or not os.path.lexists(file):
                continue
            held = file.read_bytes() if file.is_file() else b""
            if held != data and hashlib.sha256(held).hexdigest() != known.get(path):
                raise NccError("E608", f"{file} is not as ncc wrote it: it would be overwritten",
                               help="move it away, or -o another folder")
    except OSError as error:
        raise NccError("E622", f"cannot read {folder}: {error.strerror or error}") from None
