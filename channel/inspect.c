/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking at channels from outside: a read-only mapping, no part taken, nothing changed. */
#include <noria/inspect.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"
#include "segment_channel.h"

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
    channel->backend = backend;
    noria_process_self(&channel->self);
    rc = noria_segment_channel_adopt(channel);
    if (rc != 0)
        noria_segment_close(&channel->segment);
    return rc;
}

int noria_segment_channel_look_at(struct noria_segment_channel *channel, const char *address)
{
    const char *name = strncmp(address, "shm:", 4) == 0 ? address + 4 : NULL;

    channel->segment.fd = -1;
    if (name == NULL || name[0] != '/')
        return noria_fail(-EINVAL, "'%s' cannot be inspected: only channels with a name, as in shm:/name, can", address);
    return noria_segment_channel_look_into(channel, &noria_segment_posix, name);
}

static uint32_t condition_of(int rc)
{
    if (rc == 1)
        return NORIA_CONDITION_UNFINISHED;
    if (rc == -EPROTO || rc == -ENOTSUP)
        return NORIA_CONDITION_VERSION;
    if (rc == -EACCES || rc == -EPERM)
        return NORIA_CONDITION_NO_ACCESS;
    return rc == 0 ? NORIA_CONDITION_OK : NORIA_CONDITION_CORRUPT; /* -EBADMSG; others are not listed */
}

/* Owner and mode are of use even where the channel cannot be read. */
static int stat_name(const char *address, struct stat *status)
{
    char path[300];

    snprintf(path, sizeof(path), "/dev/shm%s", address + strlen("shm:"));
    return lstat(path, status);
}

int noria_name_in_use(const char *address)
{
    int fd = strncmp(address, "shm:/", 5) == 0 ? shm_open(address + 4, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0)
                                               : -1;
    int participants, creator;

    if (fd < 0)
        return noria_fail(-errno, "cannot look at '%s': %s", address, noria_error_words(errno));
    participants = noria_lock_any_held(fd, NORIA_LOCK_PARTICIPANTS, 0x10000);
    creator = noria_lock_held(fd, NORIA_LOCK_CREATE);
    close(fd);
    return participants > 0 || creator > 0;
}

/* Fills a listing. 0, or -errno if the name is not there or is not a channel's. */
static int list_one(const char *address, struct noria_listing *listing)
{
    struct noria_segment_channel channel;
    struct stat status;
    int rc = noria_segment_channel_look_at(&channel, address);

    memset(listing, 0, sizeof(*listing));
    snprintf(listing->address, sizeof(listing->address), "%s", address);
    listing->condition = condition_of(rc);
    if (rc < 0 && rc != -EPROTO && rc != -ENOTSUP && rc != -EACCES && rc != -EPERM && rc != -EBADMSG)
        return rc;
    if (stat_name(address, &status) == 0) {
        listing->uid = status.st_uid;
        listing->gid = status.st_gid;
        listing->mode = status.st_mode & 07777;
        listing->footprint = (uint64_t)status.st_size;
    }
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

/* Channels are regular files; bells that wait by FIFO or semaphore have their names there, too. */
static int may_be_channel(const struct dirent *entry)
{
    return (entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN) && entry->d_name[0] != '.' &&
           strncmp(entry->d_name, "sem.noria-", 10) != 0 && strlen(entry->d_name) < 250;
}

int noria_list(int (*each)(const struct noria_listing *, void *), void *context)
{
    struct dirent **names;
    int n, rc = 0;

    if (each == NULL)
        return noria_fail(-EINVAL, "noria_list needs a function to call");
    n = scandir("/dev/shm", &names, may_be_channel, alphasort);
    if (n < 0)
        return noria_fail(-errno, "cannot list /dev/shm: %s", noria_error_words(errno));
    for (int i = 0; i < n; i++) {
        struct noria_listing listing;
        char address[264];
        if (rc == 0) {
            snprintf(address, sizeof(address), "shm:/%.250s", names[i]->d_name);
            if (list_one(address, &listing) == 0 &&
                (listing.condition != NORIA_CONDITION_NO_ACCESS || strncmp(names[i]->d_name, "noria", 5) == 0))
                rc = each(&listing, context);
        }
        free(names[i]);
    }
    free(names);
    return rc;
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
