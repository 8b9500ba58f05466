/* SPDX-License-Identifier: BSD-2-Clause */
/* What is in order with a channel, and what is not: `noria fsck`, the part that only reads. */
#include <noria/inspect.h>

#include <string.h>
#include <time.h>

#include "clock.h"
#include "detail.h"
#include "segment_channel.h"

/* A ring that moves while it is looked at may seem to contradict itself; one that does is broken each time. */
enum { LOOKS = 50 };

bool noria_is_path(const char *address)
{
    return address[0] == '/' || address[0] == '.';
}

int noria_segment_channel_read(struct noria_segment_channel *channel, const char *path)
{
    int rc;

    memset(channel, 0, sizeof(*channel));
    rc = noria_segment_read(&channel->segment, path);
    if (rc != 0)
        return rc;
    noria_process_self(&channel->self);
    rc = noria_segment_channel_adopt(channel);
    if (rc != 0)
        noria_segment_close(&channel->segment);
    return rc;
}

static bool is_broken(const struct noria_segment_channel *channel, bool in_use)
{
    const struct timespec moment = {.tv_nsec = NORIA_NS_PER_MS};
    int looks = in_use ? LOOKS : 1;

    for (int i = 0; i < looks; i++) {
        if (channel->kind->anatomy->intact(channel))
            return false;
        if (in_use)
            nanosleep(&moment, NULL); /* those who move are not to be asked to stop */
    }
    return true;
}

void noria_segment_channel_examine(struct noria_segment_channel *channel, struct noria_health *health)
{
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        uint64_t word = noria_load_acquire64(&channel->table[number - 1].word); /* pairs with join */
        if (NORIA_ENTRY_STATE(word) != NORIA_ENTRY_LIVE)
            continue;
        if (!noria_participant_is_dead(channel, number, word, true)) {
            health->live++;
            continue;
        }
        health->dead++;
        health->held += channel->kind->held_by(channel, number);
    }
    health->broken = is_broken(channel, health->live != 0);
}
