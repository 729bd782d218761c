/* Classifies one handwritten digit with a net compiled by ncc: see the Makefile.
 *
 * Built with --embed-weights, the object carries its weights, and the whole interface is
 *
 *     void digits_forward(const float *x, float *y, void *work);
 *
 * with DIGITS_INPUTS numbers in, DIGITS_OUTPUTS numbers out, and DIGITS_WORK_BYTES bytes of the
 * caller's memory to work in, aligned to DIGITS_ALIGN. No malloc, no libm, no global state.
 */
#include <stdint.h>
#include <stdio.h>

#include "digits.h"

#define LABEL 3

/* The third held-out row of digits.csv, in the data's own unit: 0 is paper, 16 is ink. */
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

/* C99 cannot align an array, so there is room to round its address up. The size is never 0,
 * even for a net that needs no work memory (it would take NULL). */
static unsigned char storage[DIGITS_WORK_BYTES + DIGITS_ALIGN];

static void *aligned(unsigned char *memory)
{
    const uintptr_t align = (uintptr_t)DIGITS_ALIGN;
    const uintptr_t past = (uintptr_t)memory % align;

    return memory + (past == 0 ? 0 : align - past);
}

int main(void)
{
    float x[DIGITS_INPUTS];
    float y[DIGITS_OUTPUTS];
    int best = 0;
    int i;

    for (i = 0; i < DIGITS_INPUTS; i++)
        x[i] = (float)pixels[i] / 16.0f;

    digits_forward(x, y, aligned(storage));

    for (i = 0; i < DIGITS_OUTPUTS; i++) {
        printf("%d %9.4f\n", i, (double)y[i]);
        if (y[i] > y[best])
            best = i;
    }
    printf("This is a %d.\n", best);
    return best == LABEL ? 0 : 1;
}
