/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a channel that starts with 64 KiB carries any amount of data past a consumer that stalls: memory
 * rises to the ceiling, at which the sender waits, and falls back when all is drained; nothing is lost,
 * doubled or out of order. A third process looks all the time whether memory is below the ceiling.
 *
 *     stall MEGABYTES        NORIA_LONG=1: 10 GiB
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <noria/noria.h>

#define MIB (UINT64_C(1) << 20)
#define CEILING (64 * MIB)

enum { LEN = 1024, FIRST_LINK = 64 << 10, STALLS = 4 };

static char address[64];
static uint64_t total; /* messages */
static struct watch {
    uint64_t highest, looks;
    int over;
} *watch; /* shared */

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "stall: %s does not hold: %s\n", what, noria_detail());
    noria_unlink(address);
    exit(1);
}

static noria_channel *open_channel(int flags)
{
    struct noria_options options;
    noria_channel *channel;

    noria_options_init(&options);
    options.max_participants = 4;
    options.max_message = LEN;
    options.capacity = FIRST_LINK / (LEN + 64) - 12;
    options.max_bytes = CEILING;
    require(noria_open(&channel, address, flags, &options) == 0, "open");
    return channel;
}

static uint64_t footprint(noria_channel *channel)
{
    struct noria_stat stat = {0};

    require(noria_stat(channel, &stat) == 0, "stat");
    return stat.footprint;
}

static void produce(void)
{
    noria_channel *channel = open_channel(NORIA_SEND);
    uint64_t message[LEN / 8];

    for (uint64_t i = 0; i < total; i++) {
        for (unsigned k = 0; k < LEN / 8; k++)
            message[k] = i * 0x9e3779b97f4a7c15u + k;
        message[0] = i;
        require(noria_send(channel, message, LEN, -1) == 0, "send");
    }
    require(noria_close(channel) == 0, "close");
}

static void verify(const uint64_t *message, uint64_t expected)
{
    require(message[0] == expected, "order");
    for (unsigned k = 1; k < LEN / 8; k++)
        require(message[k] == expected * 0x9e3779b97f4a7c15u + k, "content");
}

static void keep_watch(void)
{
    const struct timespec moment = {.tv_nsec = 100 * 1000};
    noria_channel *channel = open_channel(0);

    while (__atomic_load_n(&watch->over, __ATOMIC_ACQUIRE) == 0) {
        uint64_t now = footprint(channel);
        watch->highest = now > watch->highest ? now : watch->highest;
        watch->looks++;
        nanosleep(&moment, NULL); /* so that it takes nobody's processor */
    }
    require(noria_close(channel) == 0, "close");
}

/* Until the sender has reached the ceiling and stands still there, or has sent everything. */
static void stall(noria_channel *channel)
{
    const struct timespec moment = {.tv_nsec = 20 * 1000 * 1000};
    uint64_t before = 0, now = footprint(channel);

    for (int still = 0; still < 5; still = now == before ? still + 1 : 0) {
        before = now;
        nanosleep(&moment, NULL); /* a stall is a length of time */
        now = footprint(channel);
    }
}

static void consume(noria_channel *channel)
{
    uint64_t message[LEN / 8];

    for (uint64_t i = 0; i < total; i++) {
        if (i % (total / STALLS) == total / STALLS / 8)
            stall(channel);
        require(noria_recv(channel, message, LEN, -1, NULL) == LEN, "receive");
        verify(message, i);
    }
}

static pid_t start(void (*body)(void))
{
    pid_t child = fork();

    if (child == 0) {
        body();
        _exit(0);
    }
    return child;
}

static void require_end(pid_t child, const char *what)
{
    int status;

    require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, what);
}

int main(int argc, char **argv)
{
    const char *long_form = getenv("NORIA_LONG");
    uint64_t megabytes = argc > 1 ? (uint64_t)atoi(argv[1]) : 512, small, last = 0, message[LEN / 8];
    noria_channel *channel;
    pid_t sender, watcher;

    if (long_form != NULL && strcmp(long_form, "1") == 0)
        megabytes = 10 * 1024;
    total = megabytes * MIB / LEN;
    watch = mmap(NULL, sizeof(*watch), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(watch != MAP_FAILED, "memory");
    snprintf(address, sizeof(address), "shm:/noria-stall-%d", (int)getpid());
    channel = open_channel(NORIA_RECV | NORIA_CREATE | NORIA_EXCL);
    small = footprint(channel);
    watcher = start(keep_watch);
    sender = start(produce);
    consume(channel);
    for (int i = 0; i < 1000 && (last = footprint(channel)) > small; i++)
        noria_recv(channel, message, LEN, 1000000, NULL);
    require_end(sender, "the sender's end");
    __atomic_store_n(&watch->over, 1, __ATOMIC_RELEASE);
    require_end(watcher, "the watcher's end");
    noria_close(channel);
    noria_unlink(address);
    printf("%llu MiB through a channel of %llu KiB: at most %llu KiB of %llu in %llu looks, at the end %llu KiB\n",
           (unsigned long long)megabytes, (unsigned long long)small >> 10, (unsigned long long)watch->highest >> 10,
           (unsigned long long)CEILING >> 10, (unsigned long long)watch->looks, (unsigned long long)last >> 10);
    require(small <= 256 << 10, "a small start");
    require(watch->highest <= CEILING && watch->highest > CEILING / 2, "memory near its ceiling, and below");
    require(last <= small, "memory that falls back");
    return 0;
}
