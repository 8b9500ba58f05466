/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs a fuzz target without libFuzzer, so that it is a regression test with every compiler.
 *
 *     TARGET FILE|DIRECTORY …        replays inputs
 *     TARGET --random N SEED         N random inputs; the same ones each time. NORIA_LONG=1: 50 times as many
 *     TARGET --live SECONDS SEED     what no input can describe, if the target has it
 *     TARGET --write DIRECTORY N SEED  writes the first N random inputs as files: a corpus to begin with
 *
 * An input that runs longer than 20 s of processor time is an endless loop: the watchdog aborts. A broken
 * promise leaves its input in the file crash-TARGET in the working directory.
 */
#include "../target.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 16, LONG_FACTOR = 50, WATCHDOG_S = 20 };

static uint8_t input[MOST_BYTES];
static volatile size_t input_size;
static const char *target_name;

static void leave_the_input_behind(void)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "crash-%s", target_name);
    file = fopen(path, "wbe");
    if (file == NULL)
        return;
    fwrite(input, 1, input_size, file);
    fclose(file);
    fprintf(stderr, "The input is in %s.\n", path);
}

_Noreturn void fuzz_broken(const char *claim)
{
    fprintf(stderr, "broken: %s\n", claim);
    leave_the_input_behind();
    abort();
}

static void on_time_up(int signal)
{
    static const char sentence[] = "broken: a call that never ends\n";
    ssize_t ignored = write(STDERR_FILENO, sentence, sizeof(sentence) - 1);

    (void)signal, (void)ignored;
    leave_the_input_behind(); /* not safe in a handler, but this is the end anyway */
    abort();
}

/* Processor time, so that a busy machine is no endless loop. */
void fuzz_still_alive(void)
{
    struct itimerval timer = {.it_value = {.tv_sec = WATCHDOG_S}};

    signal(SIGPROF, on_time_up);
    setitimer(ITIMER_PROF, &timer, NULL);
}

static void run_input(void)
{
    uint8_t *exact = malloc(input_size == 0 ? 1 : input_size); /* so that reading beyond the end is seen */

    if (exact == NULL)
        exit(1);
    memcpy(exact, input, input_size);
    fuzz_still_alive();
    LLVMFuzzerTestOneInput(exact, input_size);
    free(exact);
}

/* -------------------------------------------------------------------------------------------------------
 * inputs */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Input number i: mostly noise; some bytes are small, because small numbers mean something more often. */
static void make_input(uint64_t seed, uint64_t i)
{
    uint64_t state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (i + 1) * UINT64_C(0xbf58476d1ce4e5b9);
    uint64_t small_in;

    for (int warm = 0; warm < 8; warm++)
        next_random(&state);
    input_size = next_random(&state) % (i % 16 == 0 ? 1200 : 300);
    small_in = 1 + next_random(&state) % 4;
    for (size_t at = 0; at < input_size; at++) {
        uint64_t random = next_random(&state) >> 20;
        input[at] = (uint8_t)(random % small_in == 0 ? (random >> 8) % 24 : random >> 8);
    }
}

static int run_random(uint64_t n, uint64_t seed)
{
    if (getenv("NORIA_LONG") != NULL)
        n *= LONG_FACTOR;
    for (uint64_t i = 0; i < n; i++) {
        make_input(seed, i);
        run_input();
    }
    printf("%lu random inputs\n", n);
    return 0;
}

static int write_corpus(const char *directory, uint64_t n, uint64_t seed)
{
    for (uint64_t i = 0; i < n; i++) {
        char path[512];
        FILE *file;
        make_input(seed, i);
        snprintf(path, sizeof(path), "%s/random-%lu-%03lu", directory, seed, i);
        file = fopen(path, "wbe");
        if (file == NULL || fwrite(input, 1, input_size, file) != input_size || fclose(file) != 0) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rbe");

    if (file == NULL) {
        perror(path);
        return -1;
    }
    input_size = fread(input, 1, sizeof(input), file);
    fclose(file);
    run_input();
    return 1;
}

/* How many inputs were run, or -1. */
static int replay(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;
    int total = 0;

    if (directory == NULL)
        return replay_file(path);
    while (total >= 0 && (entry = readdir(directory)) != NULL) {
        char name[1024];
        int n;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        n = replay_file(name);
        total = n < 0 ? -1 : total + n;
    }
    closedir(directory);
    return total;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: %s FILE|DIRECTORY … | --random N SEED | --live SECONDS SEED |"
            " --write DIRECTORY N SEED\n",
            target_name);
    return 2;
}

int main(int argc, char **argv)
{
    int total = 0;

    target_name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
    if (argc == 4 && strcmp(argv[1], "--random") == 0)
        return run_random(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    if (argc == 5 && strcmp(argv[1], "--write") == 0)
        return write_corpus(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "--live") == 0 && fuzz_live != NULL) {
        fuzz_live((unsigned)strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
        return 0;
    }
    if (argc < 2 || argv[1][0] == '-')
        return usage();
    for (int i = 1; i < argc; i++) {
        int n = replay(argv[i]);
        if (n < 0)
            return 1;
        total += n;
    }
    printf("%d inputs\n", total);
    return 0;
}
