"""YAML as goNEAT writes it and as people write it for goNEAT: block and flow collections of plain
and quoted scalars, comments. No anchors, aliases, tags, block scalars or further documents, so that
what is read is no larger than the file.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Json

DEEPEST: Final = 32  # collections within each other
SEVERAL: Final = "&*!|>%@`"  # what a plain scalar does not begin with
CODE: Final = re.compile(  # a line up to its comment
    r"""((?:'(?:[^'\n]|'')*+'|"(?:[^"\\\n]|\\.)*+"|(?<=\S)\#|[^'"\#]|(?<=[^\s\[\]{},:])['"])*+)""")
KEY: Final = re.compile(r"""([A-Za-z_][\w.-]*+|'[^':]*+'|"[^":\\]*+") *+:(?: ++|$)""")
SCALAR: Final = re.compile(r"""'(?:[^']|'')*'|"[^"\\]*"|[^'"{}\[\],][^{}\[\],]*""")
INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
REAL: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
WORDS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False,
                "FALSE": False, "null": None, "~": None, "": None}


class Line(NamedTuple):
    number: int
    indent: int
    text: str


def document(file: Foreign) -> Json:
    """The one document of a file, as its JSON would be: so are places in it said. NccError E801
    where it is none, or goes beyond the subset."""
    reader = _Reader(file)
    value = reader.block(reader.lines[0].indent, 0) if reader.lines else None
    if reader.at < len(reader.lines):
        raise reader.fault("this line belongs to nothing above it")
    return Json(value, "", file)


class _Reader:
    """The lines of a file that say something, and which of them is next."""

    def __init__(self, file: Foreign) -> None:
        self.file = file
        self.lines: list[Line] = []
        self.at = 0
        for number, text in enumerate(file.text.split("\n"), 1):
            found = CODE.match(text)
            code = found[1].rstrip() if found else ""
            if found and text[found.end():found.end() + 1] not in ("", "#"):
                raise file.fault("E801", "a quotation without end", line=number,
                                 column=found.end() + 1)
            body = code.lstrip(" ")
            if not body or (number == 1 and body == "---"):
                continue
            self.lines.append(Line(number, len(code) - len(body), body))
            if body[0] == "\t" or body in ("---", "..."):
                raise file.fault("E801", "tabs and further documents are not read here",
                                 line=number)

    def fault(self, message: str) -> NccError:
        line = self.lines[min(self.at, len(self.lines) - 1)]
        return self.file.fault("E801", message, line=line.number, column=line.indent + 1)

    def block(self, indent: int, depth: int) -> Any:
        """The value whose lines begin at column `indent`."""
        if depth > DEEPEST:
            raise self.fault(f"more than {DEEPEST} collections within each other")
        text = self.lines[self.at].text
        if text == "-" or text.startswith("- "):
            return self.sequence(indent, depth)
        if KEY.match(text):
            return self.mapping(indent, depth)
        return self.flow(text, depth)

    def here(self, indent: int) -> Line | None:
        """The next line if it begins at this column."""
        if self.at < len(self.lines) and self.lines[self.at].indent == indent:
            return self.lines[self.at]
        return None

    def sequence(self, indent: int, depth: int) -> list[Any]:
        made = []
        while (line := self.here(indent)) and (line.text == "-" or line.text.startswith("- ")):
            rest = line.text[1:].lstrip(" ")
            inner = indent + len(line.text) - len(rest)
            if rest:  # what follows the dash is as if it had a line of its own
                self.lines[self.at] = Line(line.number, inner, rest)
                made.append(self.block(inner, depth + 1))
            else:
                self.at += 1
                made.append(self.below(indent, depth, False))
        return made

    def mapping(self, indent: int, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        while (line := self.here(indent)) and (found := KEY.match(line.text)):
            key = str(found[1]).strip("'\"")
            if key in made:
                raise self.fault(f"the name {key!r} stands twice in one mapping")
            rest = line.text[found.end():]
            if rest:
                made[key] = self.flow(rest, depth)
            else:
                self.at += 1
                made[key] = self.below(indent, depth, True)
        return made

    def below(self, indent: int, depth: int, of_mapping: bool) -> Any:
        """The value in the lines below a key or a dash at column `indent`, null without any."""
        if self.at == len(self.lines):
            return None
        inner = self.lines[self.at].indent
        dashed = of_mapping and inner == indent and re.match(r"-(?: |$)", self.lines[self.at].text)
        return self.block(inner, depth + 1) if inner > indent or dashed else None

    def flow(self, text: str, depth: int) -> Any:
        """A scalar, or a collection in brackets that may go on over lines; the line is used up."""
        last = self.at
        if text[0] in "[{":
            parts, level = [text], _balance(text)
            while level > 0 and last + 1 < len(self.lines):
                last += 1
                parts.append(self.lines[last].text)
                level += _balance(parts[-1])
            text = " ".join(parts)
        value, end = self.value(text, 0, depth)
        if text[end:].strip():
            raise self.fault(f"{text[end:].strip()[:40]!r} is not wanted here")
        self.at = last + 1
        return value

    def value(self, text: str, at: int, depth: int) -> tuple[Any, int]:
        """The value at a place of a text, and the place behind it."""
        if depth > DEEPEST:
            raise self.fault(f"more than {DEEPEST} collections within each other")
        at = _skip(text, at)
        if text[at:at + 1] not in ("[", "{"):
            found = SCALAR.match(text, at)
            return (self.scalar(found[0].strip()), found.end()) if found else (None, at)
        close = "]" if text[at] == "[" else "}"
        items: list[Any] = []
        pairs: dict[str, Any] = {}
        at = _skip(text, at + 1)
        while text[at:at + 1] != close:
            if close == "}":
                found = KEY.match(text, at)
                if not found:
                    raise self.fault(f"a name and a colon are wanted before {text[at:at + 40]!r}")
                key = str(found[1]).strip("'\"")
                if key in pairs:
                    raise self.fault(f"the name {key!r} stands twice in one mapping")
                pairs[key], at = self.value(text, found.end(), depth + 1)
            else:
                item, at = self.value(text, at, depth + 1)
                items.append(item)
            at = _skip(text, at)
            if text[at:at + 1] == ",":
                at = _skip(text, at + 1)
            elif text[at:at + 1] != close:
                raise self.fault(f"a comma or {close} is wanted before {text[at:at + 40]!r}")
        return (items if close == "]" else pairs), at + 1

    def scalar(self, text: str) -> Any:
        if text[:1] in ("'", '"'):
            if len(text) < 2 or text[-1] != text[0]:
                raise self.fault(f"{text[:40]} has no end")
            return text[1:-1].replace("''", "'")
        if text[:1] and text[0] in SEVERAL:
            raise self.fault(f"{text[:40]!r}: anchors, tags and the like are not read here")
        if text in WORDS:
            return WORDS[text]
        if INTEGER.fullmatch(text):
            return int(text)
        if REAL.fullmatch(text):
            return float(text)
        return text


def _skip(text: str, at: int) -> int:
    """The place of the next character that is no blank."""
    while text[at:at + 1] == " ":
        at += 1
    return at


def _balance(text: str) -> int:
    """How many brackets a text opens and does not close."""
    return sum((c in "[{") - (c in "]}") for c in re.sub(r"'[^']*'|\"[^\"]*\"", "", text))
