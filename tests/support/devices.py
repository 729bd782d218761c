"""Programs for whole devices, in simulators of them: AVRs in simavr."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

# What a program for an AVR writes: bytes as hexadecimal digits, 32 a line, since simavr shows lines
# of letters. It ends when the device sleeps and no interrupt can wake it.
AVR = r"""
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>
#include <stdint.h>

static void letter(char c)
{
    while (!(UCSR0A & 1 << UDRE0)) {}
    UDR0 = c;
}

static void put(const void *p, long size)
{
    const unsigned char *bytes = (const unsigned char *)p;
    long k;
    UCSR0A = 1 << U2X0;
    UBRR0 = 0;
    UCSR0B = 1 << TXEN0;
    for (k = 0; k < size; k++) {
        letter("0123456789abcdef"[bytes[k] >> 4]);
        letter("0123456789abcdef"[bytes[k] & 15]);
        if (k % 32 == 31 || k == size - 1)
            letter('\n');
    }
}

static void end(void)
{
    cli();
    sleep_mode();
}
"""


def needs(*tools):
    """A test is skipped without these programs."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")


def done(*command, folder):
    """What a command writes, in a folder."""
    run = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True,
                         text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def on_avr(folder, cpu, *sources, flags=()):
    """The bytes that a program of C files and objects in the folder writes on an AVR."""
    needs("avr-gcc", "simavr")
    done("avr-gcc", f"-mmcu={cpu}", "-Os", "-std=gnu99", "-Wall", "-Wl,--fatal-warnings",
         "-Wl,--gc-sections", *flags, *sources, "-o", "program.elf", "-lm", folder=folder)
    said = done("simavr", "-m", cpu, "-f", "16000000", "program.elf", folder=folder)
    lines = re.findall(r"(?m)^(?:\x1b\[[\d;]*m)*([0-9a-f]{2,64})(?=\W|$)", said)
    return bytes.fromhex("".join(lines))
