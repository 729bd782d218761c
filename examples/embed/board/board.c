/* Two nets on boards without an FPU: an Arduino Uno (ATmega328P, 32 kB of flash, 2 kB of memory) and
 * a micro:bit (nRF51, Cortex-M0). See the Makefile, which runs it in simulators of both, and on this
 * machine: all three write the same bits.
 *
 * Each net's weights are in flash; what is in memory is x, y, `work` and the stack.
 */
#include <stdint.h>

#include "digits.h"
#include "gate.h"

/* A picture of a 3: 0 is paper, 16 is ink. */
static const unsigned char pixels[DIGITS_INPUTS] = {
     0,  0,  6, 14, 16, 16,  2,  0,
     0,  5, 16, 13, 11, 16,  0,  0,
     0,  0,  7,  2, 15, 12,  0,  0,
     0,  0,  0,  7, 16, 13,  1,  0,
     0,  0,  0,  0,  6, 15, 10,  0,
     0,  0,  0,  0,  0, 15,  9,  0,
     0,  0,  3, 11,  8, 16,  6,  0,
     0,  0,  7, 16, 16,  8,  0,  0
};

static float x[DIGITS_INPUTS], y[DIGITS_OUTPUTS];
DIGITS_ALIGNED static unsigned char work[DIGITS_WORK_BYTES];

/* ---- a serial port, and the end of the program */

#if defined(__AVR__)
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/sleep.h>

static void begin(void)
{
    UBRR0 = 16; /* 115,200 baud at 16 MHz */
    UCSR0A = 1 << U2X0;
    UCSR0B = 1 << TXEN0;
}

static void put(char c)
{
    while (!(UCSR0A & 1 << UDRE0)) {}
    UDR0 = (uint8_t)c;
}

static void end(void) /* simavr ends where nothing could wake the device */
{
    while (!(UCSR0A & 1 << UDRE0)) {}
    cli();
    sleep_mode();
}

#elif defined(__arm__)
#define UART(offset) (*(volatile uint32_t *)(0x40002000u + (offset)))

static void begin(void)
{
    UART(0x50C) = 24;         /* the pin that the board's USB listens to */
    UART(0x524) = 0x01D7E000; /* 115,200 baud */
    UART(0x500) = 4;          /* on */
    UART(0x008) = 1;          /* send */
}

static void put(char c)
{
    UART(0x11C) = 0;
    UART(0x51C) = (uint32_t)c;
    while (!UART(0x11C)) {}
}

static void end(void) /* semihosting's SYS_EXIT, which ends QEMU */
{
    register uint32_t call __asm__("r0") = 0x18, why __asm__("r1") = 0x20026;
    __asm__ volatile("bkpt 0xAB" : : "r"(call), "r"(why) : "memory");
    for (;;) {}
}

int main(void);
extern uint32_t zero_begin[], zero_end[], stack_end[];

void reset(void)
{
    uint32_t *p;
    for (p = zero_begin; p < zero_end; p++)
        *(volatile uint32_t *)p = 0;
    main();
    end();
}

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*reset)(void);
} vectors = {stack_end, reset};

#else
#include <stdio.h>

static void begin(void) {}
static void put(char c) { putchar(c); }
static void end(void) {}
#endif

/* ---- the program */

static void put_bits(float value)
{
    union { float value; uint32_t bits; } both;
    int k;
    both.value = value;
    for (k = 28; k >= 0; k -= 4)
        put("0123456789abcdef"[both.bits >> k & 15]);
    put('\n');
}

int main(void)
{
    int i;
    begin();
    for (i = 0; i < DIGITS_INPUTS; i++)
        x[i] = (float)pixels[i] / 16.0f;
    digits_forward(x, y, work);
    for (i = 0; i < DIGITS_OUTPUTS; i++)
        put_bits(y[i]);
    for (i = 0; i < 4; i++) {
        x[0] = (float)(i >> 1);
        x[1] = (float)(i & 1);
        gate_forward(x, y, NULL);
        put_bits(y[0]);
    }
    end();
    return 0;
}
