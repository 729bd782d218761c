"""A module of Zephyr's, with a sample: https://docs.zephyrproject.org, "Modules"."""

from __future__ import annotations

from ncc.machine.projects.project import Project

_MODULE = """\
name: @net@
build:
  cmake: zephyr
  kconfig: zephyr/Kconfig
"""
_LISTS = """\
# @about@
if(CONFIG_@KEY@)
    zephyr_library_named(@net@)
    zephyr_library_sources(${CMAKE_CURRENT_LIST_DIR}/../src/@net@.c)
    zephyr_include_directories(${CMAKE_CURRENT_LIST_DIR}/../src)
endif()
"""
_KCONFIG = """\
config @KEY@
    bool "The neural net @net@"
    help
      @about@
      Functions of C that call nothing and allocate nothing.
"""
_SAMPLE = """\
# west build -b qemu_cortex_m3 THIS && west build -t run
cmake_minimum_required(VERSION 3.20.0)
list(APPEND EXTRA_ZEPHYR_MODULES ${CMAKE_CURRENT_SOURCE_DIR}/../..)
find_package(Zephyr REQUIRED HINTS $ENV{ZEPHYR_BASE})
project(@net@_sample LANGUAGES C)
target_sources(app PRIVATE src/main.c)
"""
_CONF = """\
CONFIG_@KEY@=y
CONFIG_CBPRINTF_FP_SUPPORT=y
"""
_ABOUT_SAMPLE = """\
sample:
  name: @net@
  description: @about@
tests:
  sample.ncc.@net@:
    tags: ncc
    integration_platforms:
      - qemu_cortex_m3
"""
_MAIN = """\
/* Evaluates the net once; write your own inputs into x. */
#include <stddef.h>
#include <stdio.h>
@includes@
@arrays@

int main(void)
{
    unsigned k;
@ready@    for (k = 0; k < @NET@_INPUTS; k++)
        x[k] = (@real@)0.5;
    @call@
    for (k = 0; k < @NET@_OUTPUTS; k++)
        printf("%.9g\\n", (double)y[k]);
    return 0;
}
"""


def files(project: Project) -> dict[str, str]:
    """By path: the module, a sample, and what describes them."""
    key = f"NCC_{project.name.upper()}"
    texts = {
        "zephyr/module.yml": _MODULE, "zephyr/CMakeLists.txt": _LISTS, "zephyr/Kconfig": _KCONFIG,
        f"samples/{project.name}/CMakeLists.txt": _SAMPLE,
        f"samples/{project.name}/prj.conf": _CONF,
        f"samples/{project.name}/sample.yaml": _ABOUT_SAMPLE,
        f"samples/{project.name}/src/main.c": _MAIN.replace("@includes@", project.includes()),
    }
    return {**{path: project.filled(text.replace("@KEY@", key)) for path, text in texts.items()},
            **{f"src/{name}": text for name, text in project.sources().items()}}
