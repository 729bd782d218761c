"""A library of Arduino's: https://arduino.github.io/arduino-cli, library specification."""

from __future__ import annotations

from ncc.machine.projects.project import Project

_PROPERTIES = """\
name=@net@
version=1.0.0
author=ncc
maintainer=ncc
sentence=@about@
paragraph=Compiled by ncc: C without calls, allocations or state, for boards of every kind.
category=Data Processing
url=
architectures=*
includes=@net@.h
"""
_SKETCH = """\
// Evaluates the net once a second; write your own inputs into x.
@includes@
@arrays@

void setup() {
    Serial.begin(115200);
@ready@}

void loop() {
    for (unsigned k = 0; k < @NET@_INPUTS; k++)
        x[k] = 0.5;
    @call@
    for (unsigned k = 0; k < @NET@_OUTPUTS; k++)
        Serial.println(y[k], 6);
    delay(1000);
}
"""
_README = """\
# @net@

@about@ An Arduino library: copy this folder into `libraries` of your
sketchbook (or zip it, and take Sketch > Include Library > Add .ZIP Library), then open
File > Examples > @net@. `src/@net@.h` says what the functions do.
"""


def files(project: Project) -> dict[str, str]:
    """By path: the library, an example, and what describes it."""
    sketch = _SKETCH.replace("@includes@", project.includes("<>"))
    return {
        "library.properties": project.filled(_PROPERTIES),
        "README.md": project.filled(_README),
        f"examples/{project.name}/{project.name}.ino": project.filled(sketch),
        **{f"src/{name}": text for name, text in project.sources().items()},
    }
