/* SPDX-License-Identifier: BSD-2-Clause */
#include "demo.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHUNKS_PER_KILL = 32, FEWEST_KILLS = 10 };

struct request {
    const char *path; /* NULL: the machine's shared libraries */
    uint64_t bytes;   /* of those */
    int64_t kills;    /* in each pass; -1: by the size */
    bool spsc, mpmc;
};

static const char usage[] = "usage: demo [--spsc | --mpmc] [--mib N] [--kills N] [FILE]\n"
                            "Passes a file through rings in POSIX shared memory while producers and "
                            "consumers are killed, and compares\n"
                            "SHA-256 of what went in and what came out. Without FILE it takes 100 MiB of the "
                            "machine's shared libraries.\n"
                            "  --spsc, --mpmc  one of the two passes: 1 producer and 1 consumer, or 3 and 3\n"
                            "  --mib N         so many MiB instead of 100\n"
                            "  --kills N       kills in each pass (one for each half MiB)\n";

static void remember_signal(int number)
{
    stop_signal = number;
}

static void watch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGALRM};
    struct sigaction action = {.sa_handler = remember_signal}; /* no SA_RESTART: waitpid must come back */
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &action, NULL);
}

static void report(const struct pass *pass)
{
    uint64_t killed = pass->producers_killed + pass->consumers_killed;
    printf("  %" PRIu64 " bytes in %" PRIu64 " chunks, each ordered, sent and reported by message\n",
           pass->bytes, pass->chunks);
    printf("  %" PRIu64 " processes killed with SIGKILL: %" PRIu64 " producers, %" PRIu64 " consumers\n",
           killed, pass->producers_killed, pass->consumers_killed);
    if (pass->stops > 0)
        printf("  %" PRIu64 " times one stood stopped (SIGSTOP) while the others went on\n", pass->stops);
    printf("  %" PRIu64 " handles of the dead cleaned up by the living\n", pass->deaths);
    printf("  %" PRIu64 " messages delivered again, %" PRIu64 " chunks written twice\n", pass->redelivered,
           pass->repeats);
    printf("  %.2f s, %.0f MB/s, all that included\n", pass->seconds,
           (double)pass->bytes / 1e6 / pass->seconds);
}

static int compare(const struct pass *pass)
{
    char in[CHECKSUM_DIGITS + 1], out[CHECKSUM_DIGITS + 1];
    if (file_checksum(pass->input, in) != 0 || file_checksum(pass->output, out) != 0)
        return 1;
    bool equal = strcmp(in, out) == 0;
    printf("  SHA-256 in   %s\n  SHA-256 out  %s  %s\n", in, out, equal ? "equal" : "DIFFERENT");
    return equal ? 0 : 1;
}

static int pass_through(struct pass *pass, const struct request *request)
{
    pass->chunks = (pass->bytes + CHUNK - 1) / CHUNK;
    pass->kills_wanted = request->kills >= 0 ? (uint64_t)request->kills : pass->chunks / CHUNKS_PER_KILL;
    if (request->kills < 0 && pass->kills_wanted < FEWEST_KILLS)
        pass->kills_wanted = FEWEST_KILLS;
    printf("%s\n", pass->title);
    fflush(stdout); /* before the forks */
    pass->output = nameless_file();
    if (pass->output < 0)
        return 1;
    int status = run_pass(pass);
    if (status == 0) {
        report(pass);
        status = compare(pass);
    }
    close(pass->output);
    return status;
}

static int run(const struct request *request)
{
    int input =
        request->path == NULL ? real_input(request->bytes) : open(request->path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    if (input < 0 && request->path == NULL)
        return 1;
    if (input < 0 || fstat(input, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        fprintf(stderr, "demo: '%s' is not a file that can be read\n", request->path);
        return 1;
    }
    uint64_t bytes = (uint64_t)stat.st_size;
    printf("Input: %" PRIu64 " bytes of %s\n", bytes,
           request->path == NULL ? "this machine's shared libraries, one after another" : request->path);
    struct pass spsc = {.title = "SPSC: 1 producer and 1 consumer process",
                        .kind = NORIA_KIND_SPSC,
                        .producers = 1,
                        .consumers = 1,
                        .input = input,
                        .bytes = bytes};
    struct pass mpmc = {.title = "MPMC: 3 producer and 3 consumer processes",
                        .kind = NORIA_KIND_MPMC,
                        .producers = 3,
                        .consumers = 3,
                        .input = input,
                        .bytes = bytes};
    int status = 0;
    if (request->spsc)
        status = pass_through(&spsc, request);
    if (request->mpmc && status == 0)
        status = pass_through(&mpmc, request);
    close(input);
    return status;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"spsc", no_argument, NULL, 's'},      {"mpmc", no_argument, NULL, 'm'},
        {"mib", required_argument, NULL, 'b'}, {"kills", required_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},      {NULL, 0, NULL, 0}};
    struct request request = {.bytes = UINT64_C(100) << 20, .kills = -1, .spsc = true, .mpmc = true};
    for (int option; (option = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        if (option == 's')
            request.mpmc = false;
        else if (option == 'm')
            request.spsc = false;
        else if (option == 'b')
            request.bytes = strtoull(optarg, NULL, 10) << 20;
        else if (option == 'k')
            request.kills = strtoll(optarg, NULL, 10);
        else {
            fputs(usage, option == 'h' ? stdout : stderr);
            return option == 'h' ? 0 : 2;
        }
    }
    if (optind < argc)
        request.path = argv[optind];
    srandom((unsigned)time(NULL) ^ (unsigned)getpid());
    watch_signals();
    int status = run(&request);
    return stop_signal != 0 && stop_signal != SIGALRM ? 128 + stop_signal : status;
}
