"""A project of CMake's: a library for `add_subdirectory`, `find_package` and pkg-config, and a
program that reads samples."""

from __future__ import annotations

from ncc.machine.projects.project import Project

_LISTS = """\
# @about@
#   cmake -S . -B build && cmake --build build       lib@net@.a, and the program @net@-run
#   cmake --install build --prefix WHERE             for find_package(@net@) and pkg-config
# or, in another project: add_subdirectory(THIS), target_link_libraries(YOURS PRIVATE @net@::@net@)
cmake_minimum_required(VERSION 3.13)
project(@net@ VERSION 1.0.0 LANGUAGES C)
include(GNUInstallDirs)

@library@
add_library(@net@::@net@ ALIAS @net@)
target_include_directories(@net@ PUBLIC
    $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(@net@ PROPERTIES C_STANDARD 99 POSITION_INDEPENDENT_CODE ON)
@math@
if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
    add_executable(@net@-run examples/run.c)
    target_link_libraries(@net@-run PRIVATE @net@)
endif()

file(RELATIVE_PATH NCC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(NCC_LIBS "@libs@")
configure_file(@net@.pc.in @net@.pc @ONLY)
install(TARGETS @net@ EXPORT @net@Targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT @net@Targets NAMESPACE @net@:: FILE @net@Config.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/@net@)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/@net@.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
"""
_OF_C = "add_library(@net@ STATIC src/@net@.c)"
_OF_OBJECT = """\
add_library(@net@ STATIC src/@net@.o)
set_source_files_properties(src/@net@.o PROPERTIES EXTERNAL_OBJECT TRUE)
set_target_properties(@net@ PROPERTIES LINKER_LANGUAGE C)"""
_MATH = """\
if(UNIX)
    target_link_libraries(@net@ PRIVATE m)
endif()
"""
_PC = """\
prefix=${pcfiledir}/@NCC_UP@
libdir=${prefix}/@CMAKE_INSTALL_LIBDIR@
includedir=${prefix}/@CMAKE_INSTALL_INCLUDEDIR@

Name: @net@
Description: @about@
Version: @PROJECT_VERSION@
Cflags: -I${includedir}
Libs: -L${libdir} -l@net@@NCC_LIBS@
"""
_RUN = """\
/* Reads samples, @NET@_INPUTS numbers each, from standard input; writes a line of outputs each. */
#include <stdio.h>
@includes@
@arrays@

int main(void)
{
    unsigned k;
@ready@    for (;;) {
        for (k = 0; k < @NET@_INPUTS; k++) {
            double value;
            int found;
            while ((found = scanf("%lf", &value)) == 0 && getchar() == ',') {}
            if (found != 1)
                return !(found == EOF && k == 0);
            x[k] = (@real@)value;
        }
        @call@
        for (k = 0; k < @NET@_OUTPUTS; k++)
            printf("%.@digits@g%c", (double)y[k], k + 1 < @NET@_OUTPUTS ? ',' : '\\n');
    }
}
"""


def files(project: Project) -> dict[str, str | bytes]:
    """By path: the project, its program, and what describes it. With an object it has that, and is
    for that machine alone."""
    found: dict[str, str | bytes] = {}
    for name, text in project.sources().items():
        found[f"{'include' if name.endswith('.h') else 'src'}/{name}"] = text
    if project.object:
        found[f"src/{project.name}.o"] = project.object
    lists = _LISTS.replace("@library@", _OF_OBJECT if project.object else _OF_C)
    lists = lists.replace("@math@\n", _MATH if project.math else "").replace(
        "@libs@", " -lm" if project.math else "")
    run = _RUN.replace("@includes@", project.includes()).replace(
        "@digits@", "17" if project.real == "double" else "9")
    return {**found, "CMakeLists.txt": project.filled(lists),
            f"{project.name}.pc.in": project.filled(_PC),
            "examples/run.c": project.filled(run)}
