/* Nets that arrive in the field: see the Makefile.
 *
 * The program contains one engine, `brain`, and no net. Nets come later, as images (here from files,
 * in the field over a radio), and each may have other neurons and other edges than the one before:
 * what evolved since. An image is checked before it is used; one that is damaged, forged, or too
 * large for this device is refused, and the net before it stays.
 *
 *     ncc build --emit engine --kinds brain.kinds --name brain --target cortex-m4f -o brain.o
 *     ncc build grown.nal --emit image --kinds brain.kinds
 */
#include <stdio.h>
#include <string.h>

#include "brain.h"

#define INPUTS 2
#define OUTPUTS 1
#define SLOT 1024 /* bytes: the largest image; a multiple of BRAIN_IMAGE_ALIGN */
#define VALUES 64 /* inputs and neurons of the largest net */

/* One image is in use while the next one arrives. */
BRAIN_IMAGE_ALIGNED static unsigned char slots[2][SLOT];
BRAIN_ALIGNED static unsigned char work[VALUES * sizeof(float)];
static const void *net; /* the image in use; NULL before the first */
static int next;        /* the slot for the next */

/* The image that has arrived in the next slot is used from now on: 0, or why it is not. */
static int take(size_t bytes)
{
    const void *image = slots[next];
    const int reason = brain_engine_check(image, bytes);

    if (reason != 0)
        return reason;
    if (brain_inputs(image) != INPUTS || brain_outputs(image) != OUTPUTS
        || brain_work_bytes(image) > sizeof work)
        return -1;
    net = image;
    next = !next;
    return 0;
}

/* How many of the four answers of exclusive or are right. */
static int try_out(void)
{
    static const float x[4][INPUTS] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}};
    float y[OUTPUTS];
    int k, right = 0;

    for (k = 0; k < 4; k++) {
        brain_forward(net, x[k], y, work);
        printf("  %d xor %d = %.4f\n", k / 2, k % 2, (double)y[0]);
        right += (y[0] > 0.5f) == (k == 1 || k == 2);
    }
    return right;
}

static size_t receive(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t bytes;

    if (file == NULL)
        return 0;
    bytes = fread(slots[next], 1, SLOT, file);
    fclose(file);
    return bytes;
}

int main(int count, char **paths)
{
    int k, right = 0;

    for (k = 1; k < count; k++) {
        size_t bytes = receive(paths[k]);
        int reason;

        if (bytes == 0)
            return 2;
        slots[next][bytes / 2] ^= 1; /* a bit is wrong at first */
        reason = take(bytes);
        printf("%s: refused, reason %d\n", paths[k], reason);
        if (reason != BRAIN_REFUSED_CHECKSUM)
            return 3;
        bytes = receive(paths[k]);
        if (take(bytes) != 0)
            return 4;
        printf("%s: %lu bytes, %lu neurons\n", paths[k], (unsigned long)bytes,
               (unsigned long)brain_rows(net));
        right = try_out();
    }
    return right == 4 ? 0 : 1;
}
