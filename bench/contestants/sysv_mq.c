/* SPDX-License-Identifier: BSD-2-Clause */
/* System V message queue, of the system's size. What noria's adapter over it is told against. */
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "../contestant.h"

struct sysv_mq_side {
    int id;
    uint8_t *scratch;
    struct {
        long type;
        uint8_t bytes[4096];
    } message;
};

static size_t sysv_mq_footprint(const struct cell *cell)
{
    return cell->mpmc || cell->round_trip || cell->batch > 1 || (cell->size != 64 && cell->size != 4096) ? 0
                                                                                                        : sizeof(int);
}

static int sysv_mq_format(void *memory, const struct cell *cell)
{
    int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);

    (void)cell;
    *(int *)memory = id;
    return id >= 0 ? 0 : -errno;
}

static void sysv_mq_remove(void *memory)
{
    msgctl(*(int *)memory, IPC_RMID, NULL);
}

static int sysv_mq_join(struct sysv_mq_side *side, const struct seat *seat)
{
    side->id = *(const int *)seat->memory;
    side->scratch = seat->scratch;
    side->message.type = 1;
    return 0;
}

static inline uint8_t *sysv_mq_place(struct sysv_mq_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)i, (void)size, (void)batch;
    return side->message.bytes;
}

static inline uint32_t sysv_mq_publish(struct sysv_mq_side *side, uint32_t from, uint32_t to, size_t size, uint32_t batch)
{
    (void)from, (void)to, (void)batch;
    return msgsnd(side->id, &side->message, size, 0) == 0;
}

static inline const uint8_t *sysv_mq_arrived(struct sysv_mq_side *side, uint32_t i, size_t size, uint32_t batch)
{
    (void)i, (void)batch;
    return msgrcv(side->id, &side->message, size, 0, 0) == (ssize_t)size ? side->message.bytes : NULL;
}

static inline void sysv_mq_release(struct sysv_mq_side *side, uint32_t n, size_t size, uint32_t batch)
{
    (void)side, (void)n, (void)size, (void)batch;
}

static inline void sysv_mq_wait(struct sysv_mq_side *side, enum role role)
{
    (void)side, (void)role;
}

#define CONTESTANT sysv_mq
#define CONTESTANT_NAME "sysv mq"
#define CONTESTANT_CALLS "msgsnd, msgrcv; blocking"
#define CONTESTANT_TRAITS (TAKES_SPSC | WAITS_ITSELF | USES_KERNEL | IS_YARDSTICK)
#define CONTESTANT_WAIT sysv_mq_wait
#define CONTESTANT_CLOSE sysv_mq_remove
#include "../traffic.h"
