/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking at channels from outside: a read-only mapping, no part taken, nothing changed. */
#include <noria/inspect.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detail.h"
#include "segment_channel.h"

static const struct noria_segment_backend *const backends[] = {&noria_segment_posix, &noria_segment_file,
                                                              &noria_segment_sysv};
enum { BACKENDS = sizeof(backends) / sizeof(backends[0]) };

int noria_backends_with_names(int (*each)(const struct noria_segment_backend *backend, void *context), void *context)
{
    int rc = 0;

    for (size_t i = 0; i < BACKENDS && rc == 0; i++)
        if (backends[i]->list != NULL)
            rc = each(backends[i], context);
    return rc;
}

const struct noria_segment_backend *noria_backend_of(const char *address, const char **name)
{
    for (size_t i = 0; i < BACKENDS; i++) {
        size_t length = strlen(backends[i]->scheme);
        if (strncmp(address, backends[i]->scheme, length) == 0 && address[length] == ':') {
            *name = address + length + 1;
            return backends[i];
        }
    }
    noria_fail(-EINVAL, "'%s' cannot be looked at from outside: only what has a name can, as shm:/name", address);
    return NULL;
}

int noria_segment_channel_look_into(struct noria_segment_channel *channel,
                                    const struct noria_segment_backend *backend, const char *name)
{
    bool unfinished;
    int rc;

    memset(channel, 0, sizeof(*channel));
    channel->segment.fd = -1;
    rc = noria_segment_inspect(&channel->segment, backend, name, &unfinished);
    if (rc != 0)
        return rc;
    if (unfinished) {
        noria_segment_close(&channel->segment);
        return 1;
    }
    noria_process_self(&channel->self);
    rc = noria_segment_channel_adopt(channel);
    if (rc != 0)
        noria_segment_close(&channel->segment);
    return rc;
}

int noria_segment_channel_peek(struct noria_segment_channel *channel, const struct noria_segment_backend *backend,
                               const char *name)
{
    uint32_t *wait = &channel->geometry.wait;
    int rc;

    memset(channel, 0, sizeof(*channel));
    channel->segment.fd = -1;
    rc = noria_segment_peek(&channel->segment, backend, name);
    if (rc == 0 && backend->read(&channel->segment, wait, sizeof(*wait), NORIA_SEGMENT_CONTENT +
                                 offsetof(struct noria_header, geometry.wait)) != (ssize_t)sizeof(*wait))
        rc = noria_fail(-EBADMSG, "'%s:%s' is too small for a channel", backend->scheme, name);
    if (rc != 0)
        noria_segment_close(&channel->segment);
    return rc;
}

int noria_segment_channel_look_at(struct noria_segment_channel *channel, const char *address)
{
    const struct noria_segment_backend *backend;
    const char *name;

    if (noria_is_path(address))
        return noria_segment_channel_read(channel, address);
    backend = noria_backend_of(address, &name);
    return backend != NULL ? noria_segment_channel_look_into(channel, backend, name) : -EINVAL;
}

static uint32_t condition_of(int rc)
{
    if (rc == 1)
        return NORIA_CONDITION_UNFINISHED;
    if (rc == -EPROTO || rc == -ENOTSUP)
        return NORIA_CONDITION_VERSION;
    if (rc == -EACCES || rc == -EPERM)
        return NORIA_CONDITION_NO_ACCESS;
    if (rc == -EFBIG)
        return NORIA_CONDITION_TOO_LARGE;
    return rc == 0 ? NORIA_CONDITION_OK : NORIA_CONDITION_CORRUPT; /* -EBADMSG; others are not listed */
}

int noria_name_in_use(const char *address)
{
    const char *name;
    const struct noria_segment_backend *backend = noria_backend_of(address, &name);

    return backend != NULL ? noria_segment_in_use(backend, name) : -EINVAL;
}

/* Owner and mode are of use even where the channel cannot be read. */
static void describe(const char *address, struct noria_listing *listing)
{
    bool is_path = noria_is_path(address);
    struct noria_segment_facts facts;
    const char *name = address;
    const struct noria_segment_backend *backend = is_path ? &noria_segment_file : noria_backend_of(address, &name);

    if (backend == NULL || backend->describe(name, &facts) != 0)
        return;
    listing->uid = facts.owner;
    listing->gid = facts.group;
    listing->mode = facts.mode;
    listing->footprint = facts.size;
}

/* Fills a listing. 0, or -errno if the name is not there or is not a channel's. */
static int list_one(const char *address, struct noria_listing *listing)
{
    struct noria_segment_channel channel;
    int rc = noria_segment_channel_look_at(&channel, address);

    memset(listing, 0, sizeof(*listing));
    snprintf(listing->address, sizeof(listing->address), "%s", address);
    listing->condition = condition_of(rc);
    if (rc < 0 && rc != -EPROTO && rc != -ENOTSUP && rc != -EACCES && rc != -EPERM && rc != -EBADMSG &&
        rc != -EFBIG)
        return rc;
    describe(address, listing);
    if (rc == 0) {
        listing->created_ns = channel.segment.super.created_ns;
        noria_segment_stat(&channel.base, &listing->stat);
        noria_segment_close(&channel.segment);
    }
    return 0;
}

int noria_inspect(const char *address, struct noria_listing *listing)
{
    struct noria_listing found;
    int rc;

    if (address == NULL || listing == NULL)
        return noria_fail(-EINVAL, "noria_inspect takes an address and a place for the answer");
    rc = list_one(address, &found);

    if (rc == 0)
        *listing = found;
    return rc;
}

/* What noria_list is at. */
struct walk {
    const struct noria_segment_backend *backend;
    int (*each)(const struct noria_listing *, void *);
    void *context;
};

/* A file that cannot be read is listed only if its name says that it is noria's. */
static int list_name(const char *name, void *context)
{
    struct walk *walk = context;
    struct noria_listing listing;
    char address[sizeof(listing.address)];

    if (snprintf(address, sizeof(address), "%s:%s", walk->backend->scheme, name) >= (int)sizeof(address) ||
        list_one(address, &listing) != 0 ||
        (listing.condition == NORIA_CONDITION_NO_ACCESS && name[0] == '/' && strncmp(name, "/noria", 6) != 0))
        return 0;
    return walk->each(&listing, walk->context);
}

int noria_list(int (*each)(const struct noria_listing *, void *), void *context)
{
    int rc = 0;

    if (each == NULL)
        return noria_fail(-EINVAL, "noria_list needs a function to call");
    for (size_t i = 0; i < BACKENDS && rc == 0; i++) {
        struct walk walk = {.backend = backends[i], .each = each, .context = context};
        if (backends[i]->list != NULL)
            rc = backends[i]->list(list_name, &walk);
    }
    return rc;
}

static int may_be_file(const struct dirent *entry)
{
    return entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN;
}

int noria_files_of_folder(const char *folder, int (*each)(const char *name, void *context), void *context)
{
    char *absolute = realpath(folder, NULL);
    struct dirent **names = NULL;
    int n = absolute != NULL ? scandir(absolute, &names, may_be_file, alphasort) : -1, rc = 0;

    if (n < 0)
        rc = noria_fail(-errno, "cannot list '%s': %s", folder, noria_error_words(errno));
    for (int i = 0; i < n; i++) {
        char path[4096];
        if (rc == 0 && snprintf(path, sizeof(path), "%s/%s", absolute[1] != '\0' ? absolute : "", names[i]->d_name) <
                           (int)sizeof(path))
            rc = each(path, context);
        free(names[i]);
    }
    free(names);
    free(absolute);
    return rc;
}

int noria_list_folder(const char *folder, int (*each)(const struct noria_listing *, void *), void *context)
{
    struct walk walk = {.backend = &noria_segment_file, .each = each, .context = context};

    if (folder == NULL || each == NULL)
        return noria_fail(-EINVAL, "noria_list_folder needs a directory and a function to call");
    return noria_files_of_folder(folder, list_name, &walk);
}

int noria_who(const char *address, struct noria_participant *participants, int n)
{
    struct noria_segment_channel channel;
    int found = 0, rc;

    if (address == NULL || (participants == NULL && n > 0))
        return noria_fail(-EINVAL, "noria_who takes an address and room for n participants");
    rc = noria_segment_channel_look_at(&channel, address);
    if (rc == 1)
        return 0;
    if (rc != 0)
        return rc;
    for (uint32_t number = 1; number <= channel.geometry.max_participants; number++) {
        const struct noria_entry *entry = &channel.table[number - 1];
        uint64_t word = noria_load_acquire64(&entry->word); /* pairs with join */
        if (NORIA_ENTRY_STATE(word) != NORIA_ENTRY_LIVE)
            continue;
        if (found < n) {
            uint64_t pid_namespace = noria_load_relaxed64(&entry->pid_namespace); /* acquired with the word */
            participants[found] = (struct noria_participant){
                .number = number,
                .flags = NORIA_ENTRY_FLAGS(word),
                .alive = !noria_participant_is_dead(&channel, number, word, true),
                .pid = (int32_t)noria_load_relaxed32((const uint32_t *)&entry->pid),
                .foreign = pid_namespace != channel.self.pid_namespace,
                .held = channel.kind->held_by(&channel, number),
                .joined_ns = (int64_t)noria_load_relaxed64((const uint64_t *)&entry->joined_ns),
                .sent = noria_load_relaxed64(&entry->sent) - noria_load_relaxed64(&entry->sent_before),
                .received = noria_load_relaxed64(&entry->received) - noria_load_relaxed64(&entry->received_before)};
        }
        found++;
    }
    noria_segment_close(&channel.segment);
    return found;
}
