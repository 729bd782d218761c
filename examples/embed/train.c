/* Trains two nets compiled by ncc, on a machine with no Python and no library: see the Makefile.
 *
 * Built with --train LOSS,OPTIMIZER, an object has a step of training, too:
 *
 *     void gate_train_step_batch(size_t n, const float *x, const float *target, float *params,
 *                                float *packed, float *state, float lr, void *work);
 *
 * It moves `params` by the gradients of the mean loss of n samples. All memory is the caller's:
 * here arrays of fixed size. `gate` is ../xor.nal and learns the four rows below; `student` is
 * ../digits.nal without its weights, and learns four fifths of ../digits.csv. The others are held
 * out. A folder with the two CSV files may be given; it is .. otherwise.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "gate.h"
#include "student.h"

/* C99 cannot align an array, so each has room to round its address up. */
#define ROOM(bytes) ((bytes) + GATE_ALIGN)

static void *aligned(void *memory)
{
    const uintptr_t align = (uintptr_t)GATE_ALIGN;
    const uintptr_t past = (uintptr_t)memory % align;

    return (unsigned char *)memory + (past == 0 ? 0 : align - past);
}

/* A number in -1 .. 1: the top bits of a linear congruence (Knuth's MMIX), the same anywhere. */
static uint64_t seed = 1;

static uint32_t random_word(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 40);
}

static float random_float(void)
{
    return (float)random_word() / 8388608.0f - 1.0f;
}

/* ---- exclusive or */

/* Two hidden neurons are just enough, and some beginnings lead nowhere: then it begins anew. */
static int learn_xor(void)
{
    static const float x[4 * GATE_INPUTS] = {0, 0, 0, 1, 1, 0, 1, 1};
    static const float target[4 * GATE_TARGETS] = {0, 1, 1, 0};
    static unsigned char packed_room[ROOM(GATE_PACKED * sizeof(float))];
    static unsigned char work_room[ROOM(GATE_TRAIN_BATCH_WORK_BYTES + GATE_WORK_BYTES)];
    float *packed = (float *)aligned(packed_room);
    void *work = aligned(work_room);
    float params[GATE_PARAMS], state[GATE_STATE];
    int attempt, k, right = 0;

    for (attempt = 0; attempt < 20; attempt++) {
        for (k = 0; k < GATE_PARAMS; k++)
            params[k] = random_float();
        for (k = 0; k < GATE_STATE; k++)
            state[k] = 0; /* before the first step */
        gate_pack(params, packed);
        for (k = 0; k < 1000; k++)
            gate_train_step_batch(4, x, target, params, packed, state, 0.05f, work);
        if (state[0] < 0.01f) /* the mean loss of the last step */
            break;
    }
    for (k = 0; k < 4; k++) {
        float y[GATE_OUTPUTS];

        gate_forward(x + k * GATE_INPUTS, packed, y, work);
        printf("%.0f xor %.0f = %.2f\n", (double)x[k * GATE_INPUTS],
               (double)x[k * GATE_INPUTS + 1], (double)y[0]);
        right += (y[0] > 0.5f) == (target[k] > 0.5f);
    }
    return right == 4;
}

/* ---- digits */

enum { ROWS = 360, HELD_OUT = 72, LEARNT = ROWS - HELD_OUT, BATCH = 24, EPOCHS = 40 };

static float pictures[ROWS * STUDENT_INPUTS];
static float labels[ROWS];

/* Numbers with commas, blanks or line ends between them; whether there are just so many. */
static int read_numbers(const char *folder, const char *name, float *to, size_t count)
{
    char path[1024];
    FILE *file;
    size_t k = 0;
    double value;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return 0;
    file = fopen(path, "r");
    if (file == NULL)
        return 0;
    while (k < count && fscanf(file, "%lf%*[, \r\n]", &value) == 1)
        to[k++] = (float)value;
    fclose(file);
    return k == count;
}

/* How many of the rows first .. last-1 the net reads as what they are. */
static int right_of(size_t first, size_t last, const float *packed, void *work)
{
    static float scores[ROWS * STUDENT_OUTPUTS];
    size_t n = last - first, row, k;
    int right = 0;

    student_forward_batch(n, pictures + first * STUDENT_INPUTS, packed, scores, work);
    for (row = 0; row < n; row++) {
        const float *y = scores + row * STUDENT_OUTPUTS;
        size_t best = 0;

        for (k = 1; k < STUDENT_OUTPUTS; k++)
            if (y[k] > y[best])
                best = k;
        right += best == (size_t)labels[first + row];
    }
    return right;
}

static int learn_digits(const char *folder)
{
    static unsigned char packed_room[ROOM(STUDENT_PACKED * sizeof(float))];
    static unsigned char work_room[ROOM(STUDENT_TRAIN_BATCH_WORK_BYTES
                                        + STUDENT_BATCH_WORK_BYTES)];
    static float params[STUDENT_PARAMS], state[STUDENT_STATE];
    static float x[BATCH * STUDENT_INPUTS], target[BATCH];
    float *packed = (float *)aligned(packed_room);
    void *work = aligned(work_room);
    size_t order[LEARNT], k, at, epoch;
    int right;

    if (!read_numbers(folder, "digits.csv", pictures, ROWS * STUDENT_INPUTS)
        || !read_numbers(folder, "digits_labels.csv", labels, ROWS)) {
        fprintf(stderr, "cannot read digits.csv and digits_labels.csv in %s\n", folder);
        return 0;
    }
    for (k = 0; k < STUDENT_PARAMS; k++)
        params[k] = 0.3f * random_float();
    student_pack(params, packed);
    for (k = 0; k < LEARNT; k++)
        order[k] = k;
    for (epoch = 1; epoch <= EPOCHS; epoch++) {
        float loss = 0;

        for (k = LEARNT - 1; k > 0; k--) { /* Fisher and Yates's shuffle */
            const size_t other = random_word() % (k + 1), held = order[k];

            order[k] = order[other];
            order[other] = held;
        }
        for (at = 0; at < LEARNT; at += BATCH) {
            for (k = 0; k < BATCH; k++) {
                const size_t row = order[at + k];
                size_t pixel;

                for (pixel = 0; pixel < STUDENT_INPUTS; pixel++)
                    x[k * STUDENT_INPUTS + pixel] = pictures[row * STUDENT_INPUTS + pixel];
                target[k] = labels[row];
            }
            student_train_step_batch(BATCH, x, target, params, packed, state, 0.005f, work);
            loss += state[0] * BATCH / LEARNT; /* the mean loss of the step */
        }
        if (epoch % 10 == 0)
            printf("epoch %d, loss %.4f\n", (int)epoch, (double)loss);
    }
    right = right_of(LEARNT, ROWS, packed, work);
    printf("held-out accuracy %.4f (%d of %d)\n", (double)right / HELD_OUT, right, HELD_OUT);
    return right * 10 >= HELD_OUT * 8;
}

int main(int count, char **arguments)
{
    const int logic = learn_xor();

    return learn_digits(count > 1 ? arguments[1] : "..") && logic ? EXIT_SUCCESS : EXIT_FAILURE;
}
