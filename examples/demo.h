/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The demo: a real file goes through rings in POSIX shared memory, while the processes at both ends are
 * killed again and again, and comes out with the same checksum.
 *
 *     foreman --orders--> producers --data--> consumers --done--> foreman
 *
 * An order is the number of a chunk. A producer holds it until it has committed the chunk, a consumer holds
 * the chunk until it has written it into the output and reported it; both are released only then. So
 * whatever a killed process had in hand is delivered again to another one, and work is done twice at worst,
 * with the same bytes. Nothing but the three channels is shared; only the foreman, who kills, is never
 * killed himself. Where there are several of a kind, one of them stands stopped (SIGSTOP) meanwhile.
 *
 *     demo.c       the command line, the report        demo_crew.c   producers and consumers
 *     demo_run.c   the foreman                         demo_file.c   input, output, checksums
 */
#ifndef NORIA_EXAMPLES_DEMO_H
#define NORIA_EXAMPLES_DEMO_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <noria/noria.h>

enum { CHUNK = 16 * 1024, CREW_MAX = 6, CHECKSUM_DIGITS = 64 };
#define GO_HOME UINT64_MAX /* an order, and then a chunk, without bytes */

struct chunk {
    uint64_t number;
    unsigned char bytes[CHUNK]; /* the last one is shorter */
};

enum { ORDERS, DATA, DONE, CHANNELS };

/* What one pass through the rings is to be, and what became of it. */
struct pass {
    const char *title;
    uint32_t kind;
    int producers, consumers;
    int input, output; /* descriptors of files without a name */
    uint64_t bytes, chunks, kills_wanted;
    char names[CHANNELS][64];

    uint64_t reports, repeats; /* done messages; those of them that came twice */
    uint64_t producers_killed, consumers_killed, stops, deaths, redelivered;
    double seconds;
};

/* demo_run.c: 0, or 1 after it said what went wrong. Leaves no names and no processes behind. */
int run_pass(struct pass *pass);
/* Which signal asked us to stop; 0 none. */
extern volatile sig_atomic_t stop_signal;

/* demo_crew.c: what the child processes do; they end with exit status 0 when sent home. */
int produce(const struct pass *pass);
int consume(const struct pass *pass);
void channel_options(const struct pass *pass, int which, struct noria_options *options);

/* demo_file.c */
int nameless_file(void);                                       /* a descriptor, or -1 with a sentence */
int real_input(uint64_t bytes);                                /* so many bytes of shared libraries, or -1 */
int file_checksum(int fd, char checksum[CHECKSUM_DIGITS + 1]); /* 0 or -1 with a sentence */
bool read_fully(int fd, void *buffer, size_t len, uint64_t offset); /* errno on failure */
bool write_fully(int fd, const void *data, size_t len, uint64_t offset);

#endif
