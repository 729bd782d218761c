/* Images that were tampered with: refused by the check, or evaluated within their memory.
 *
 * argv: rounds, seed, images. Prints how often the check gave each answer, 0 first, and how many
 * good ones were not evaluated, as they want too many inputs.
 *
 * With FENCED each buffer lies against a page that nobody may touch; without, a sanitizer watches
 * memory of just the size. What is not written before it is read shows as a result that depends on
 * what `work` held.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "net.h"

enum { SIZE = 3, CHECKSUM = 4, HEAD = 32, FIELDS = 18, REASONS = 15, MOST = 256, ROOM = 1 << 21 };

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static uint32_t crc(const unsigned char *p, size_t size)
{
    uint32_t sum = 0xFFFFFFFFu;
    size_t k;
    int bit;
    for (k = 0; k < size; k++) {
        sum ^= k / 4 == CHECKSUM ? 0u : p[k];
        for (bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (0xEDB88320u & (0u - (sum & 1u)));
    }
    return ~sum;
}

#ifdef FENCED
/* `size` bytes that end where nobody may read; one buffer a number, each as large as ROOM. */
static unsigned char *get(int number, size_t size, size_t align)
{
    static unsigned char *rooms[4];
    if (rooms[number] == NULL) {
        unsigned char *base = (unsigned char *)mmap(
            NULL, ROOM + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == (unsigned char *)MAP_FAILED || mprotect(base, 4096, PROT_NONE)
            || mprotect(base + 4096 + ROOM, 4096, PROT_NONE))
            exit(9);
        rooms[number] = base + 4096;
    }
    if (size > ROOM)
        exit(9);
    return rooms[number] + ROOM - (size + align - 1) / align * align;
}

static void give(void *p) { (void)p; }
#else
static unsigned char *get(int number, size_t size, size_t align)
{
    void *p = NULL;
    (void)number;
    if (posix_memalign(&p, align < sizeof p ? sizeof p : align, size))
        exit(9);
    return (unsigned char *)p;
}

static void give(void *p) { free(p); }
#endif

static uint32_t other(const uint32_t *words, uint32_t count, uint32_t at)
{
    const uint32_t old = words[at];
    switch (draw(16)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return 0xFFFFFFFFu;
    case 3: return 0xFFFFFFFEu;
    case 4: return 1u << (16 + draw(16));
    case 5: return (1u << 30) - 1;
    case 6: return old + 1;
    case 7: return old - 1;
    case 8: return old + 64;
    case 9: return old - 64;
    case 10: return 2 * old;
    case 11: return draw(64);
    case 12: return draw(0xFFFFFFFFu);
    case 13: return count - old;
    case 14: return words[(at + 1) % count];
    default: return words[(at + count - 1) % count];
    }
}

/* The new number of bytes. */
static size_t tamper(unsigned char *p, size_t size)
{
    uint32_t *words = (uint32_t *)(void *)p;
    const uint32_t count = (uint32_t)(size / 4), how = draw(8);
    uint32_t k, kept;
    if (how == 0) {
        for (k = 1 + draw(3); k > 0; k--)
            p[draw((uint32_t)size)] ^= (unsigned char)(1u << draw(8));
        if (draw(2))
            return size;
    } else if (how == 1) {
        return draw((uint32_t)size);
    } else if (how == 2) {
        const uint32_t a = draw(FIELDS), b = draw(FIELDS);
        kept = words[a];
        words[a] = words[b];
        words[b] = kept;
    } else {
        for (k = 1 + draw(2); k > 0; k--) {
            const uint32_t at = draw(how < 5 ? FIELDS : count);
            words[at] = other(words, count, at);
        }
    }
    kept = words[SIZE];
    if (kept >= 4 * HEAD && kept <= size)
        words[CHECKSUM] = crc(p, kept);
    return size;
}

static void evaluate(const void *image)
{
    const size_t n = 1 + draw(2 * NET_LANES + 3), in = net_inputs(image), out = net_outputs(image);
    REAL *x = (REAL *)(void *)get(1, n * in * sizeof(REAL), sizeof(REAL));
    REAL *y[2];
    size_t k, one = out * sizeof(REAL), all = (n + 1) * one;
    int turn;
    for (k = 0; k < n * in; k++)
        x[k] = (REAL)draw(1000) / 100 - 5;
    for (turn = 0; turn < 2; turn++) {
        void *work = get(2, net_work_bytes(image), NET_ALIGN);
        REAL *single = (REAL *)(void *)get(3, one, sizeof(REAL)), *batch;
        memset(work, turn ? 0 : 0xFF, net_work_bytes(image));
        net_forward(image, x, single, work);
        give(work);
        y[turn] = (REAL *)malloc(all + 1);
        if (y[turn] == NULL)
            exit(9);
        memcpy(y[turn], single, one);
        give(single);
        work = get(2, net_batch_work_bytes(image), NET_ALIGN);
        batch = (REAL *)(void *)get(3, n * one, sizeof(REAL));
        memset(work, turn ? 0 : 0xFF, net_batch_work_bytes(image));
        net_forward_batch(image, n, x, batch, work);
        memcpy(y[turn] + out, batch, n * one);
        give(work);
        give(batch);
    }
    if (memcmp(y[0], y[1], all) != 0) {
        fprintf(stderr, "what work held shows in y\n");
        exit(1);
    }
    for (k = 0; k < out; k++) { /* bits of NaN aside, which differ between instructions */
        const REAL a = y[0][k], b = y[0][out + k];
        if ((a == a || b == b) && memcmp(&a, &b, sizeof a) != 0) {
            fprintf(stderr, "a batch differs\n");
            exit(1);
        }
    }
    free(y[0]);
    free(y[1]);
    give(x);
}

int main(int count, char **arguments)
{
    long answers[REASONS] = {0}, left_out = 0, rounds = atol(arguments[1]), r;
    int k;
    state = 88172645463325252u ^ (uint64_t)atol(arguments[2]) << 20;
    for (r = 0; r < rounds; r++) {
        static uint32_t held[1 << 16];
        FILE *file = fopen(arguments[3 + r % (count - 3)], "rb");
        size_t size = file == NULL ? 0 : fread(held, 1, sizeof held, file);
        unsigned char *image;
        int answer;
        if (size < 4 * HEAD)
            return 8;
        fclose(file);
        size = tamper((unsigned char *)held, size);
        image = get(0, size, NET_IMAGE_ALIGN);
        memcpy(image, held, size);
        answer = net_engine_check(image, size);
        if (answer < 0 || answer >= REASONS)
            return 7;
        answers[answer]++;
        if (answer == 0 && net_inputs(image) > MOST)
            left_out++;
        else if (answer == 0)
            evaluate(image);
        give(image);
    }
    for (k = 0; k < REASONS; k++)
        printf("%ld ", answers[k]);
    printf("%ld\n", left_out);
    return 0;
}
