/* SPDX-License-Identifier: BSD-2-Clause */
/* noria_fsck: what a channel suffers from, and what every open can mend. */
#include <errno.h>
#include <string.h>

#include <noria/inspect.h>

#include "detail.h"
#include "segment_channel.h"

static int examine_file(const char *path, struct noria_health *health)
{
    struct noria_segment_channel channel;
    int rc = noria_segment_channel_read(&channel, path);

    if (rc == -EBADMSG || rc == -EPROTO || rc == -ENOTSUP) {
        health->condition = rc == -EBADMSG ? NORIA_CONDITION_CORRUPT : NORIA_CONDITION_VERSION;
        return 0;
    }
    if (rc != 0)
        return rc;
    noria_segment_channel_examine(&channel, health);
    noria_segment_close(&channel.segment);
    return 0;
}

static int examine(const char *address, struct noria_health *health)
{
    struct noria_listing listing;
    struct noria_segment_channel channel;
    int rc;

    memset(health, 0, sizeof(*health));
    if (noria_is_path(address))
        return examine_file(address, health);
    rc = noria_inspect(address, &listing);
    if (rc != 0)
        return rc;
    health->condition = listing.condition;
    if (listing.condition == NORIA_CONDITION_OK && noria_segment_channel_look_at(&channel, address) == 0) {
        noria_segment_channel_examine(&channel, health);
        noria_segment_close(&channel.segment);
    }
    return 0;
}

/* Every open settles the dead. */
static int settle_dead(const char *address)
{
    noria_channel *observer;
    struct noria_options options;
    int rc;

    noria_options_init(&options);
    options.foreign = 1; /* it is the administrator's word */
    rc = noria_open(&observer, address, 0, &options);
    return rc != 0 ? rc : noria_close(observer);
}

int noria_fsck(const char *address, int repair, struct noria_health *health)
{
    struct noria_health found;
    uint32_t dead;
    int rc;

    if (address == NULL || health == NULL)
        return noria_fail(-EINVAL, "noria_fsck takes an address and a place for the findings");
    if (repair && noria_is_path(address))
        return noria_fail(-EINVAL, "'%s' is a file, and only channels can be repaired: copy it to /dev/shm, and give its "
                          "address there", address);
    rc = examine(address, &found);
    dead = rc == 0 ? found.dead : 0;
    if (rc == 0 && repair && dead > 0) {
        rc = settle_dead(address);
        if (rc == 0)
            rc = examine(address, &found);
        if (rc == -ENOENT) { /* it was to go with its last user, and has gone with us */
            memset(&found, 0, sizeof(found));
            rc = 0;
        }
    }
    if (rc != 0)
        return rc;
    *health = found;
    health->repaired = dead > found.dead ? dead - found.dead : 0;
    return 0;
}
