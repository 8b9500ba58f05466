/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One file of jobs, several producers, several workers, and one of the workers is killed again and again.
 * Still the result is complete: a job that a dead worker held is delivered again, and since the worker may
 * have died between sending the result and releasing the job, results that come twice are told by the job's
 * sequence number.
 *
 *     examples/workers [JOBFILE [KILLS]]      each line is a job; without a file 20000 are made up
 *
 *     producers --jobs--> workers --results--> main, who collects, kills and replaces
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <noria/noria.h>

enum { PRODUCERS = 3, WORKERS = 4, MADE_UP_JOBS = 20000, DEFAULT_KILLS = 200, MAX_TEXT = 240, WORK = 2000 };
static const int64_t patience_ns = 20 * INT64_C(1000000000);

struct job {
    uint64_t line; /* from 1; 0: go home */
    char text[MAX_TEXT];
};

struct result {
    uint64_t sequence; /* of the job: the same when it is delivered again */
    uint64_t line;
    uint64_t digest;
};

struct job_file {
    char (*lines)[MAX_TEXT];
    uint64_t count, room;
};

struct shop {
    noria_channel *jobs, *results; /* main's handles; the others reopen them */
    struct job_file file;
    pid_t workers[WORKERS], producers[PRODUCERS];
    uint64_t *sequences; /* of results collected so far, a hash table; 0 is free, so they are kept + 1 */
    uint64_t table_size;
    bool *line_done;
    uint64_t collected, twice, kills;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1); /* children die with their parent */
}

/* ---------------------------------------------------------------------------------- producers and workers */

static uint64_t digest_of(const char *text)
{
    uint64_t digest = 14695981039346656037u; /* FNV-1a, many times over, as something that takes a while */
    for (int round = 0; round < WORK; round++) {
        for (const char *each = text; *each != '\0'; each++)
            digest = (digest ^ (unsigned char)*each) * 1099511628211u;
    }
    return digest;
}

static void produce(const struct shop *shop, uint64_t first)
{
    noria_channel *jobs;
    if (noria_reopen(&jobs, shop->jobs, NORIA_SEND) != 0)
        fail("producer", noria_detail());
    for (uint64_t i = first; i < shop->file.count; i += PRODUCERS) {
        struct job job = {.line = i + 1};
        memcpy(job.text, shop->file.lines[i], MAX_TEXT);
        if (noria_send(jobs, &job, sizeof job, -1) < 0)
            fail("producer", noria_detail());
    }
    noria_close(jobs);
}

/* First the result, then the release: who dies in between makes a result come twice; the other way round
 * one would be missing. */
static void work(const struct shop *shop)
{
    noria_channel *jobs, *results;
    if (noria_reopen(&jobs, shop->jobs, NORIA_RECV) != 0 ||
        noria_reopen(&results, shop->results, NORIA_SEND) != 0)
        fail("worker", noria_detail());
    for (bool at_work = true; at_work;) {
        struct noria_span span;
        struct noria_info info;
        if (noria_peek(jobs, &span, -1, &info) < 0)
            fail("worker", noria_detail());
        const struct job *job = span.data;
        at_work = job->line != 0;
        if (at_work) {
            struct result result = {info.sequence, job->line, digest_of(job->text)};
            if (noria_send(results, &result, sizeof result, -1) < 0)
                fail("worker", noria_detail());
        }
        if (noria_release(jobs, &span) < 0)
            fail("worker", noria_detail());
    }
    noria_close(results);
    noria_close(jobs);
}

/* 0 in the child, as fork. */
static pid_t start(void)
{
    pid_t child = fork();
    if (child < 0)
        fail("fork", strerror(errno));
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return child;
}

static void start_worker(struct shop *shop, int i)
{
    shop->workers[i] = start();
    if (shop->workers[i] == 0) {
        work(shop);
        _exit(0);
    }
}

static void start_producer(struct shop *shop, int i)
{
    shop->producers[i] = start();
    if (shop->producers[i] == 0) {
        produce(shop, (uint64_t)i);
        _exit(0);
    }
}

static void wait_for_leaving(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("a process", "ended otherwise than it should");
}

/* --------------------------------------------------------------------------------------------------- main */

/* Whether this is the first result for the sequence number. */
static bool is_new(struct shop *shop, uint64_t sequence)
{
    uint64_t place = (sequence * 11400714819323198485u) % shop->table_size;
    while (shop->sequences[place] != 0) {
        if (shop->sequences[place] == sequence + 1)
            return false;
        place = (place + 1) % shop->table_size;
    }
    shop->sequences[place] = sequence + 1;
    return true;
}

static void collect_one(struct shop *shop)
{
    struct result result;
    ssize_t len = noria_recv(shop->results, &result, sizeof result, patience_ns, NULL);
    if (len < 0)
        fail("results", noria_detail());
    if (!is_new(shop, result.sequence)) {
        shop->twice++;
        return;
    }
    uint64_t i = result.line - 1;
    if (i >= shop->file.count || shop->line_done[i] || result.digest != digest_of(shop->file.lines[i]))
        fail("results", "one is wrong, or a second one for its job");
    shop->line_done[i] = true;
    shop->collected++;
}

static void kill_and_replace(struct shop *shop)
{
    kill(shop->workers[0], SIGKILL);
    waitpid(shop->workers[0], NULL, 0);
    shop->kills++;
    start_worker(shop, 0);
}

static void collect_all(struct shop *shop, uint64_t kills)
{
    while (shop->collected < shop->file.count) {
        collect_one(shop);
        if (shop->kills < kills && shop->collected * kills > shop->kills * shop->file.count)
            kill_and_replace(shop);
    }
}

/* Every worker takes one of these and leaves; one that is still starting finds its own in the channel. */
static void send_home(struct shop *shop)
{
    struct job go_home = {.line = 0};
    for (int i = 0; i < WORKERS; i++) {
        if (noria_send(shop->jobs, &go_home, sizeof go_home, patience_ns) < 0)
            fail("jobs", noria_detail());
    }
}

static void open_shop(struct shop *shop)
{
    struct noria_options options;
    noria_options_init(&options);
    options.capacity = 64;
    options.max_message = sizeof(struct job);
    if (noria_open(&shop->jobs, "anon:", NORIA_SEND | NORIA_CREATE, &options) != 0)
        fail("jobs", noria_detail());
    options.max_message = sizeof(struct result);
    if (noria_open(&shop->results, "anon:", NORIA_RECV | NORIA_CREATE, &options) != 0)
        fail("results", noria_detail());
    shop->table_size = 4 * shop->file.count + 1;
    shop->sequences = calloc(shop->table_size, sizeof *shop->sequences);
    shop->line_done = calloc(shop->file.count + 1, sizeof *shop->line_done);
    if (shop->sequences == NULL || shop->line_done == NULL)
        fail("main", "there is no memory");
}

static void add_line(struct job_file *file, const char *text)
{
    if (file->count == file->room) {
        file->room = file->room == 0 ? 1024 : 2 * file->room;
        file->lines = realloc(file->lines, file->room * sizeof *file->lines);
        if (file->lines == NULL)
            fail("main", "there is no memory");
    }
    memset(file->lines[file->count], 0, MAX_TEXT);
    memcpy(file->lines[file->count], text, strnlen(text, MAX_TEXT - 1));
    file->count++;
}

static void read_jobs(struct job_file *file, const char *path)
{
    char text[MAX_TEXT];
    FILE *stream = path == NULL ? NULL : fopen(path, "r");
    if (path != NULL && stream == NULL)
        fail(path, strerror(errno));
    for (int i = 0; path == NULL && i < MADE_UP_JOBS; i++) {
        snprintf(text, sizeof text, "job %d", i);
        add_line(file, text);
    }
    while (stream != NULL && fgets(text, sizeof text, stream) != NULL) /* a longer line is several jobs */
        add_line(file, text);
    if (stream != NULL)
        fclose(stream);
}

int main(int argc, char **argv)
{
    struct shop shop = {0};
    uint64_t kills = argc > 2 ? strtoull(argv[2], NULL, 10) : DEFAULT_KILLS;
    read_jobs(&shop.file, argc > 1 ? argv[1] : NULL);
    open_shop(&shop);
    for (int i = 0; i < WORKERS; i++)
        start_worker(&shop, i);
    for (int i = 0; i < PRODUCERS; i++)
        start_producer(&shop, i);
    collect_all(&shop, kills);
    for (int i = 0; i < PRODUCERS; i++)
        wait_for_leaving(shop.producers[i]);
    send_home(&shop);
    for (int i = 0; i < WORKERS; i++)
        wait_for_leaving(shop.workers[i]);

    struct noria_stat stat = {.size = sizeof stat};
    noria_stat(shop.jobs, &stat);
    printf("%ju jobs, %d producers, %d workers, %ju times killed; %ju jobs delivered again, %ju results came "
           "twice; "
           "each job has its one result\n",
           (uintmax_t)shop.collected, PRODUCERS, WORKERS, (uintmax_t)shop.kills, (uintmax_t)stat.redelivered,
           (uintmax_t)shop.twice);
    noria_close(shop.results);
    noria_close(shop.jobs);
    free(shop.sequences);
    free(shop.line_done);
    free(shop.file.lines);
    return 0;
}
