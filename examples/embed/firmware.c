/* The digits net in firmware: see the Makefile. All memory is arrays of fixed size.
 *
 * `sensor` is ../digits.nal without its weights in the code. They lie in flash beside it (here they
 * are drawn, as no sensor is at hand), in the order of ../digits.nal's parameters. SENSOR_ALIGNED
 * aligns an array to SENSOR_ALIGN bytes, as much as the target's vectors want: 4 on a Cortex-M4F,
 * 32 on x86-64-v3. SENSOR_STACK_BYTES is what the largest of the functions takes of the stack.
 *
 *     ncc build ../digits.nal --name sensor --no-backward --target cortex-m4f -o sensor.o
 */
#include <stddef.h>
#include <stdint.h>

#include "sensor.h"

#define STACK 8192 /* what the linker's script leaves */

#if SENSOR_STACK_BYTES > STACK / 2
#error "the net takes more than half of the stack"
#endif

static float weights[SENSOR_PARAMS];
SENSOR_ALIGNED static float packed[SENSOR_PACKED];
/* An array has one element at least, and some nets want no memory to work in. */
SENSOR_ALIGNED static unsigned char work[SENSOR_WORK_BYTES + 1];

/* Once, after a reset and whenever the weights change. */
static void begin(void)
{
    uint32_t seed = 1;
    int k;

    for (k = 0; k < SENSOR_PARAMS; k++) {
        seed = seed * 1664525u + 1013904223u;
        weights[k] = (float)(seed >> 8) / 67108864.0f - 0.125f;
    }
    sensor_pack(weights, packed);
}

/* The number of the largest output. */
static int classify(const float *x)
{
    float y[SENSOR_OUTPUTS];
    int k, best = 0;

    sensor_forward(x, packed, y, work);
    for (k = 1; k < SENSOR_OUTPUTS; k++)
        if (y[k] > y[best])
            best = k;
    return best;
}

int main(void)
{
    static const float x[SENSOR_INPUTS] = {0.5f, 1.0f};
    int found;

    begin();
    found = classify(x);
    if ((uintptr_t)packed % SENSOR_ALIGN != 0 || (uintptr_t)work % SENSOR_ALIGN != 0)
        return 2;
    return found == classify(x) && found < SENSOR_OUTPUTS ? 0 : 1;
}
