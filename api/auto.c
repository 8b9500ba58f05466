/* SPDX-License-Identifier: BSD-2-Clause */
#include "auto.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapters.h"
#include "choice.h"
#include "detail.h"
#include "nap.h"
#include "place.h"
#include "segment_channel.h"

enum { MOST_CANDIDATES = 5, LONGEST_NAME = 100, REASON_IN_SENTENCE = 84, LONGEST_ADDRESS = 512 };

struct candidate {
    const struct noria_transport *transport;
    bool in_folder;   /* its name is a file in noria's folder, and only those who open auto: use it */
    bool stays;       /* who has chosen has made it, whichever side he is */
    bool outlives;    /* messages wait there for who comes when all have left */
    bool has_no_name; /* it is lent by those who have it */
};

static const struct candidate candidates[MOST_CANDIDATES] = {
    {.transport = &noria_transport_shm, .outlives = true},
    {.transport = &noria_transport_memfd, .has_no_name = true},
    {.transport = &noria_transport_unix, .in_folder = true},
    {.transport = &noria_transport_fifo, .in_folder = true, .stays = true},
    {.transport = &noria_transport_mq, .outlives = true},
};

struct noria_auto {
    struct noria_choice_file file;
    char *rest; /* of the address auto:… */
    char name[LONGEST_NAME + 1];
    char address[LONGEST_ADDRESS];
    const struct candidate *carrier;
    int memory, place; /* that we lend; -1 */
    struct noria_options options;
    struct noria_choice choice;
};

const char *noria_auto_carrier(const struct noria_auto *chosen)
{
    return chosen->address;
}

const char *noria_auto_refused(const struct noria_auto *chosen)
{
    return chosen->choice.refused;
}

/* ----------------------------------------------------------------------------------------------- the address */

static const struct candidate *find(const char *scheme, size_t length)
{
    for (int i = 0; i < MOST_CANDIDATES; i++)
        if (strlen(candidates[i].transport->scheme) == length &&
            memcmp(candidates[i].transport->scheme, scheme, length) == 0)
            return &candidates[i];
    return NULL;
}

/* A list as shm,fifo. How many, or -EINVAL. */
static int parse_order(const char *list, const char *of, const struct candidate *order[MOST_CANDIDATES])
{
    int count = 0;

    for (const char *at = list;; at++) {
        size_t length = strcspn(at, ",");
        const struct candidate *one = find(at, length);
        bool again = false;
        for (int i = 0; i < count; i++)
            again = again || order[i] == one;
        if (one == NULL || again)
            return noria_fail(-EINVAL,
                              "%s: '%.40s' is no list of what may carry a channel: shm, memfd, unix, fifo and mq, with "
                              "commas between them, each once",
                              of, list);
        order[count++] = one;
        at += length;
        if (*at == '\0')
            return count;
    }
}

/* /NAME[?order=LIST]; NORIA_TRANSPORT says more than that. How many candidates, or -EINVAL, -ENAMETOOLONG. */
static int parse(const char *rest, char *name, const struct candidate *order[MOST_CANDIDATES])
{
    const char *forced = getenv("NORIA_TRANSPORT"), *option = strchr(rest, '?');
    size_t length = option != NULL ? (size_t)(option - rest) : strlen(rest);
    int count;

    if (rest[0] != '/' || length < 2 || memchr(rest + 1, '/', length - 1) != NULL)
        return noria_fail(-EINVAL, "'auto:%.100s' is not a name: write auto:/name, with one slash, at the start", rest);
    if (length - 1 > LONGEST_NAME)
        return noria_fail(-ENAMETOOLONG, "'auto:%.40s…': a name has up to %d characters", rest, LONGEST_NAME);
    memcpy(name, rest + 1, length - 1);
    name[length - 1] = '\0';
    if (option != NULL && strncmp(option, "?order=", 7) != 0)
        return noria_fail(-EINVAL, "'%.40s' is no option of auto:; there is ?order=shm,memfd,unix,fifo,mq", option);
    count = parse_order(option != NULL ? option + 7 : "shm,memfd,unix,fifo,mq", rest, order);
    return count > 0 && forced != NULL && forced[0] != '\0' ? parse_order(forced, "NORIA_TRANSPORT", order) : count;
}

static int name_carrier(struct noria_auto *of, const struct candidate *candidate)
{
    char path[LONGEST_ADDRESS - 8], file[LONGEST_NAME + 16];
    int rc = 0;

    if (candidate->has_no_name) {
        snprintf(of->address, sizeof(of->address), "memfd:");
    } else if (candidate->in_folder) {
        snprintf(file, sizeof(file), "auto-%s.%s", of->name, candidate->transport->scheme);
        rc = noria_place_path(path, sizeof(path), file);
        if (rc == 0)
            snprintf(of->address, sizeof(of->address), "%s:%s", candidate->transport->scheme, path);
    } else {
        snprintf(of->address, sizeof(of->address), "%s:/%s", candidate->transport->scheme, of->name);
    }
    return rc;
}

static const char *rest_of(const char *address)
{
    return strchr(address, ':') + 1;
}

/* ---------------------------------------------------------------------------------------------- one candidate */

/* The memory that others lend. */
static int open_borrowed(noria_channel **out, struct noria_auto *of, int flags)
{
    char rest[16];
    int memory = noria_choice_borrow(&of->file), rc;

    if (memory < 0)
        return noria_fail(memory, "the memory is to be had through /proc of the processes that have it open: %s",
                          memory == -ENOENT ? "of none of them here" : strerror(-memory));
    snprintf(rest, sizeof(rest), "%d", memory);
    rc = noria_transport_memfd.open(out, rest, flags & ~NORIA_EXCL, &of->options);
    close(memory);
    return rc;
}

static int open_memory(noria_channel **out, struct noria_auto *of, int flags, bool is_new)
{
    int rc =
        is_new ? noria_transport_anon.open(out, "", flags & ~NORIA_EXCL, &of->options) : open_borrowed(out, of, flags);

    if (rc != 0)
        return rc;
    of->memory = noria_segment_channel_descriptor(*out);
    of->place = of->memory >= 0 ? noria_choice_lend(&of->file, of->memory) : -1;
    if (is_new && of->place < 0) { /* nobody else could find it */
        (*out)->verbs->close(*out, false);
        return noria_fail(of->memory < 0 ? of->memory : -ENOSPC, "the memory cannot be lent to others: %s",
                          strerror(of->memory < 0 ? -of->memory : ENOSPC));
    }
    return 0;
}

/* `is_new`: the choice is being made. */
static int open_candidate(noria_channel **out, struct noria_auto *of, const struct candidate *candidate, int flags,
                          bool is_new)
{
    int rc = name_carrier(of, candidate);

    if (rc != 0)
        return rc;
    of->carrier = candidate;
    if (candidate->has_no_name)
        return open_memory(out, of, flags, is_new);
    if (candidate->in_folder) /* the name that counts is that of the choice; and that a socket is not yet there is no
                                 reason */
        flags = (flags & ~(NORIA_EXCL | NORIA_CREATE)) | (is_new || !candidate->stays ? NORIA_CREATE : 0);
    return candidate->transport->open(out, rest_of(of->address), flags, &of->options);
}

/* What lies in the call and not in the mechanism: another one would not make it better, or lead away from the others.
 */
static bool is_final(int rc)
{
    return rc == -EINVAL || rc == -EEXIST || rc == -EBUSY;
}

/* Remembers why, in one line. */
static void add_refusal(struct noria_choice *choice, const struct candidate *candidate)
{
    size_t used = strlen(choice->refused);
    char *line = choice->refused + used;

    snprintf(line, sizeof(choice->refused) - used, "%s: %s", candidate->transport->scheme, noria_last_detail());
    for (; *line != '\0'; line++)
        if (*line == '\n')
            *line = ' ';
    used = strlen(choice->refused);
    if (used + 1 < sizeof(choice->refused))
        memcpy(choice->refused + used, "\n", 2);
}

/* The refusals in a sentence, each cut to fit. */
static const char *in_short(const struct noria_choice *choice, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (const char *at = choice->refused; *at != '\0'; at += strcspn(at, "\n") + 1) {
        int length = (int)strcspn(at, "\n");
        bool cut = length > REASON_IN_SENTENCE;
        used += (size_t)snprintf(text + used, size - used, "%s%.*s%s", used > 0 ? "; " : "",
                                 cut ? REASON_IN_SENTENCE : length, at, cut ? "…" : "");
        if (used >= size)
            break;
    }
    return text;
}

/* -------------------------------------------------------------------------------------------------- choosing */

static int choose(noria_channel **out, struct noria_auto *of, const struct candidate *const *order, int count,
                  int flags)
{
    char reasons[480];
    int rc = -ENOTSUP;

    memset(&of->choice, 0, sizeof(of->choice));
    for (int i = 0; i < count; i++) {
        rc = open_candidate(out, of, order[i], flags, true);
        if (rc == 0) {
            snprintf(of->choice.scheme, sizeof(of->choice.scheme), "%s", order[i]->transport->scheme);
            rc = noria_choice_write(&of->file, &of->choice);
            if (rc != 0)
                (*out)->verbs->close(*out, false);
            else if (of->place >= 0) /* behind the text, which was written over the whole file */
                of->place = noria_choice_lend(&of->file, of->memory);
            return rc;
        }
        if (is_final(rc))
            return rc;
        add_refusal(&of->choice, order[i]);
    }
    return noria_fail(rc, "nothing can carry 'auto:/%.40s' here. %s", of->name,
                      in_short(&of->choice, reasons, sizeof(reasons)));
}

/* Others use it, so this one does as they do or not at all. */
static int join(noria_channel **out, struct noria_auto *of, const struct candidate *const *order, int count, int flags)
{
    const struct candidate *carrier = find(of->choice.scheme, strlen(of->choice.scheme));
    char here[200], reasons[300];
    bool allowed = false;
    int rc;

    for (int i = 0; i < count; i++)
        allowed = allowed || order[i] == carrier;
    if (carrier == NULL)
        return noria_fail(-EPROTO, "'auto:/%.60s' is carried by '%s', which this version does not know", of->name,
                          of->choice.scheme);
    if (!allowed)
        return noria_fail(
            -EBUSY,
            "those who use 'auto:/%.40s' have it carried by %s, which NORIA_TRANSPORT or the order of the "
            "address leaves out here%s%s",
            of->name, carrier->transport->scheme, of->choice.refused[0] != '\0' ? ". There: " : "",
            in_short(&of->choice, reasons, sizeof(reasons)));
    rc = open_candidate(out, of, carrier, flags, false);
    if (rc == 0 || is_final(rc))
        return rc;
    snprintf(here, sizeof(here), "%s", noria_last_detail());
    return noria_fail(rc, "those who use 'auto:/%.40s' have it carried by %s, which cannot be used here: %s. There: %s",
                      of->name, carrier->transport->scheme, here,
                      of->choice.refused[0] != '\0' ? in_short(&of->choice, reasons, sizeof(reasons))
                                                    : "it was the first choice");
}

/* Nobody uses it. Messages may wait in what it was carried by. 0, -ENOENT: there is no such channel any more; -EEXIST,
 * -EBUSY, -EINVAL. */
static int revive(noria_channel **out, struct noria_auto *of, int flags)
{
    const struct candidate *carrier = find(of->choice.scheme, strlen(of->choice.scheme));
    int rc;

    if (carrier == NULL || !carrier->outlives)
        return -ENOENT;
    rc = open_candidate(out, of, carrier, flags & (NORIA_SEND | NORIA_RECV), false);
    if (rc == 0 && (flags & NORIA_EXCL) != 0) {
        (*out)->verbs->close(*out, false);
        return noria_fail(-EEXIST, "'auto:/%.60s' is there already", of->name);
    }
    return rc == 0 || is_final(rc) ? rc : -ENOENT;
}

/* With the file locked. */
static int find_or_make(noria_channel **out, struct noria_auto *of, const struct candidate *const *order, int count,
                        int flags)
{
    bool is_used = noria_choice_is_used(&of->file);
    int rc = noria_choice_use(&of->file);

    if (rc != 0)
        return rc;
    noria_choice_read(&of->file, &of->choice);
    if (is_used && of->choice.scheme[0] != '\0')
        return (flags & NORIA_EXCL) != 0 ? noria_fail(-EEXIST, "'auto:/%.60s' is there already", of->name)
                                         : join(out, of, order, count, flags);
    rc = revive(out, of, flags);
    if (rc != -ENOENT)
        return rc;
    return (flags & NORIA_CREATE) != 0 ? choose(out, of, order, count, flags) : -ENOENT;
}

static int lock_and_open(noria_channel **out, struct noria_auto *of, const struct candidate *const *order, int count,
                         int flags)
{
    int rc = noria_choice_lock(&of->file, of->name, (flags & NORIA_CREATE) != 0,
                               noria_deadline_ns(of->options.open_timeout_ns));

    if (rc != 0)
        return rc;
    rc = find_or_make(out, of, order, count, flags);
    if (rc != 0 && of->choice.scheme[0] == '\0') /* nothing was there, nothing is: nor does the file stay */
        noria_choice_remove(of->name);
    if (rc == 0)
        noria_choice_unlock(&of->file);
    else
        noria_choice_close(&of->file);
    return rc;
}

/* ---------------------------------------------------------------------------------------------- open and close */

static struct noria_auto *make(const char *rest, const struct noria_options *options)
{
    struct noria_auto *of = calloc(1, sizeof(*of));

    if (of == NULL || (of->rest = strdup(rest)) == NULL) {
        free(of);
        noria_fail(-ENOMEM, "out of memory for a handle");
        return NULL;
    }
    of->file.fd = of->memory = of->place = -1;
    if (options != NULL)
        of->options = *options;
    else
        noria_options_init(&of->options);
    return of;
}

static void dispose(struct noria_auto *of)
{
    noria_choice_close(&of->file);
    if (of->memory >= 0)
        close(of->memory);
    free(of->rest);
    free(of);
}

static int open_auto(noria_channel **out, const char *rest, int flags, const struct noria_options *options)
{
    const struct candidate *order[MOST_CANDIDATES];
    struct noria_auto *of = make(rest, options);
    noria_channel *channel = NULL;
    int count, rc = noria_process_prepare();
    int64_t until_ns;

    if (of == NULL)
        return -ENOMEM;
    count = rc == 0 ? parse(rest, of->name, order) : rc;
    /* Who creates meets -ENOENT where the one who lends the memory is just dying: its lock goes last. */
    until_ns = noria_deadline_ns((flags & NORIA_CREATE) != 0 ? of->options.open_timeout_ns
                                                             : of->options.wait_create_ns);
    of->options.wait_create_ns = 0; /* we wait, for the choice */
    rc = count > 0 ? lock_and_open(&channel, of, order, count, flags) : count;
    while (rc == -ENOENT && noria_now_ns() < until_ns) {
        noria_nap(until_ns);
        rc = lock_and_open(&channel, of, order, count, flags);
    }
    if (rc == -ENOENT && (flags & NORIA_CREATE) == 0)
        noria_fail(rc, "nobody has 'auto:/%.60s' open; NORIA_CREATE makes it", of->name);
    if (rc != 0) {
        dispose(of);
        return rc;
    }
    channel->chosen = of;
    *out = channel;
    return 0;
}

void noria_auto_leave(struct noria_auto *of, bool stale)
{
    if (!stale)
        noria_choice_take_back(&of->file, of->place, of->memory);
    dispose(of);
}

int noria_auto_reopen(noria_channel **mine, const noria_channel *inherited, int flags)
{
    const struct noria_auto *theirs = inherited->chosen;
    struct noria_auto *of = make(theirs->rest, &theirs->options);
    noria_channel *channel = NULL;
    int rc;

    if (of == NULL)
        return -ENOMEM;
    snprintf(of->name, sizeof(of->name), "%s", theirs->name);
    snprintf(of->address, sizeof(of->address), "%s", theirs->address);
    of->choice = theirs->choice;
    of->carrier = theirs->carrier;
    /* If the name was removed, the channel goes on without. */
    rc = noria_choice_lock(&of->file, of->name, false, noria_deadline_ns(of->options.open_timeout_ns));
    if (rc == 0 && (of->file.device != theirs->file.device || of->file.inode != theirs->file.inode))
        noria_choice_close(&of->file);
    if (of->file.fd >= 0)
        noria_choice_use(&of->file);
    rc = rc == -ETIMEDOUT ? rc : inherited->verbs->reopen(&channel, inherited, flags);
    if (rc == 0 && of->carrier->has_no_name && of->file.fd >= 0) {
        of->memory = noria_segment_channel_descriptor(channel);
        of->place = of->memory >= 0 ? noria_choice_lend(&of->file, of->memory) : -1;
    }
    if (rc != 0) {
        dispose(of);
        return rc;
    }
    if (of->file.fd >= 0)
        noria_choice_unlock(&of->file);
    channel->chosen = of;
    *mine = channel;
    return 0;
}

/* ---------------------------------------------------------------------------------------------------- the name */

/* Removes what the choice names, and in noria's folder what is left of earlier ones. */
static int remove_carriers(struct noria_auto *of)
{
    const struct candidate *carrier = find(of->choice.scheme, strlen(of->choice.scheme));
    int rc = 0;

    for (int i = 0; i < MOST_CANDIDATES && rc == 0; i++) {
        if ((&candidates[i] != carrier && !candidates[i].in_folder) || candidates[i].has_no_name)
            continue;
        rc = name_carrier(of, &candidates[i]);
        if (rc == 0)
            rc = candidates[i].transport->unlink(rest_of(of->address));
        if (rc == -ENOENT || &candidates[i] != carrier)
            rc = 0;
    }
    return rc;
}

static int lock_name(struct noria_auto **out, const char *rest)
{
    const struct candidate *order[MOST_CANDIDATES];
    struct noria_auto *of = make(rest, NULL);
    int rc = of != NULL ? parse(rest, of->name, order) : -ENOMEM;

    if (rc > 0)
        rc = noria_choice_lock(&of->file, of->name, false, noria_deadline_ns(of->options.open_timeout_ns));
    if (rc == -ENOENT)
        noria_fail(rc, "there is no channel 'auto:/%.60s'", of->name);
    if (rc != 0 && of != NULL)
        dispose(of);
    if (rc == 0)
        *out = of;
    return rc;
}

static int unlink_auto(const char *rest)
{
    struct noria_auto *of;
    int rc = lock_name(&of, rest);

    if (rc != 0)
        return rc;
    noria_choice_read(&of->file, &of->choice);
    rc = remove_carriers(of);
    if (rc == 0)
        rc = noria_choice_remove(of->name);
    dispose(of);
    return rc;
}

static int in_use(const char *rest)
{
    struct noria_auto *of;
    int rc = lock_name(&of, rest);

    if (rc != 0)
        return rc;
    rc = noria_choice_is_used(&of->file);
    dispose(of);
    return rc;
}

const struct noria_transport noria_transport_auto = {"auto", open_auto, unlink_auto, in_use};
