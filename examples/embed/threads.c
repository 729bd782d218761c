/* A batch split over two threads by the caller: see the Makefile.
 *
 * The compiled functions keep no state, so any number of threads may run them at once, each on its
 * own rows of x and y and with its own `work`. A sample's result does not depend on the others of
 * its batch: the rows may be split anywhere, and give the same bits. (Of net_backward_batch each
 * thread wants its own `dparams`, too; to add these up, in the order of the threads, is the
 * caller's.)
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "digits.h"

enum { THREADS = 2, ROWS = 1001 };

static float x[ROWS * DIGITS_INPUTS];
static float alone[ROWS * DIGITS_OUTPUTS], together[ROWS * DIGITS_OUTPUTS];

/* What one thread does: rows first .. last-1. C99 cannot align an array, hence the room. */
struct part {
    size_t first, last;
    float *y;
    unsigned char room[DIGITS_BATCH_WORK_BYTES + DIGITS_ALIGN];
};

static void *evaluate(void *argument)
{
    struct part *part = (struct part *)argument;
    const uintptr_t past = (uintptr_t)part->room % DIGITS_ALIGN;

    digits_forward_batch(part->last - part->first, x + part->first * DIGITS_INPUTS,
                         part->y + part->first * DIGITS_OUTPUTS,
                         part->room + (past == 0 ? 0 : DIGITS_ALIGN - past));
    return NULL;
}

int main(void)
{
    static struct part parts[THREADS], whole;
    pthread_t threads[THREADS];
    size_t k;
    int same;

    for (k = 0; k < ROWS * DIGITS_INPUTS; k++)
        x[k] = (float)(k * 7919 % 17) / 16.0f;
    whole.last = ROWS;
    whole.y = alone;
    evaluate(&whole);

    for (k = 0; k < THREADS; k++) {
        parts[k].first = ROWS * k / THREADS;
        parts[k].last = ROWS * (k + 1) / THREADS;
        parts[k].y = together;
        if (pthread_create(&threads[k], NULL, evaluate, &parts[k]) != 0)
            return 2;
    }
    for (k = 0; k < THREADS; k++)
        pthread_join(threads[k], NULL);

    same = memcmp(alone, together, sizeof alone) == 0;
    printf("%d rows, %d threads: %s\n", ROWS, THREADS, same ? "the same bits" : "other bits");
    return same ? 0 : 1;
}
