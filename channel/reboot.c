/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A channel in a file outlives a reboot, its participants do not. Their entries name processes by numbers that
 * others have by now, and what they waited with is gone. So the first one to open it in a new boot, alone under the
 * creation lock, takes the names out of the entries, which the ordinary recovery then finds dead without asking
 * anybody, and puts all waiting back to how it was at first. The superblock's boot is stored last: whoever dies
 * before that did nothing that the next one does not do again.
 */
#include <errno.h>
#include <string.h>

#include "detail.h"
#include "segment_channel.h"

/* Relaxed stores, here and below: nobody else is there, and the boot, released at the end, publishes them. */
static void take_names_out(struct noria_segment_channel *channel)
{
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        struct noria_entry *entry = &channel->table[number - 1];
        noria_store_relaxed64(&entry->start_time, 0);
        noria_store_relaxed64(&entry->pid_namespace, 0); /* of no namespace: nobody to ask after */
        noria_store_relaxed64(&entry->image, 0);
        noria_store_relaxed32(&entry->program, 0);
        noria_store_relaxed32((uint32_t *)&entry->pid, 0);
        noria_store_relaxed32(&entry->signal, 0);
    }
}

static void empty_rooms(struct noria_segment_channel *channel)
{
    const struct noria_geometry *geometry = &channel->geometry;
    uint8_t *content = (uint8_t *)channel->shared;

    for (unsigned side = 0; side < 2; side++)
        memset(&channel->shared->rooms[side], 0, sizeof(channel->shared->rooms[side]));
    memset(content + geometry->bell_offset, 0, (size_t)geometry->bell_size);
    memset(content + geometry->poll_offset, 0, (size_t)geometry->poll_size);
}

int noria_settle_reboot(struct noria_segment_channel *channel, int64_t deadline_ns)
{
    int rc = 0;

    /* Memory does not outlive a boot, and where a boot id differs all the same it was laid over (containers). */
    if (!channel->segment.backend->on_disk || !noria_segment_is_of_earlier_boot(&channel->segment))
        return 0;
    if (noria_segment_lock_name(&channel->segment, deadline_ns) != 0)
        return noria_fail(-ETIMEDOUT, "another process is opening '%s' after a reboot and does not get on",
                          channel->name);
    if (noria_segment_is_of_earlier_boot(&channel->segment)) { /* and nobody was faster */
        if (channel->segment.backend->any_held(&channel->segment) != 0) {
            rc = noria_fail(-EBUSY, "'%s' is of another boot or machine, and in use there; it cannot be shared",
                            channel->name);
        } else {
            take_names_out(channel);
            empty_rooms(channel);
            noria_segment_note_boot(&channel->segment);
        }
    }
    noria_segment_unlock_name(&channel->segment);
    return rc;
}
