/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What message queues of the kernel share. Messages stay in them when all processes have left. Who is there is told by
 * locks on a file: an empty queue without senders is the end of the stream.
 *
 * Several may receive as long as every message fits into one of the queue's; pieces of longer ones would come to
 * different receivers, so where somebody sends or asks for longer ones there is one receiver, and others are refused
 * (-EBUSY). While there is one, it is told what is missing; with several, what one does not get another one may have.
 */
#ifndef NORIA_KERNEL_QUEUE_H
#define NORIA_KERNEL_QUEUE_H

#include "adapter.h"

struct noria_kernel_queue {
    struct noria_adapter adapter;
    int locks; /* a description of our own */
    struct noria_fork_guard guard;
    bool shared; /* another receiver has been seen */
};

static inline struct noria_kernel_queue *noria_kernel_queue_of(struct noria_adapter *adapter)
{
    return (struct noria_kernel_queue *)(void *)adapter;
}

/* The file whose bytes are locked, which the handle owns from now on. */
void noria_kernel_queue_begin(struct noria_kernel_queue *queue, int locks);
void noria_kernel_queue_leave(struct noria_kernel_queue *queue);
/* Shapes the handle for messages of the queue of so many bytes, and takes its roles. 0, -EBUSY, -errno with a sentence.
 */
int noria_kernel_queue_take_part(struct noria_kernel_queue *queue, uint32_t piece, int flags);
/* Whether senders or receivers hold their bytes. */
bool noria_kernel_queue_is_used(int locks);

int noria_kernel_queue_attach(struct noria_adapter *adapter);
int noria_kernel_queue_end(struct noria_adapter *adapter);
bool noria_kernel_queue_is_loss(struct noria_adapter *adapter);
int noria_kernel_queue_look_round(struct noria_adapter *adapter, enum noria_side side);
void noria_kernel_queue_stat(struct noria_adapter *adapter, struct noria_stat *stat);

#define NORIA_KERNEL_QUEUE_MECHANISM(more_abilities) \
    .abilities = NORIA_CAN_PRIORITY | NORIA_CAN_MANY_SENDERS | NORIA_CAN_MANY_RECEIVERS | NORIA_CAN_OUTLIVE | \
                 (more_abilities), \
    .in_one_piece = true, .attach = noria_kernel_queue_attach, .end = noria_kernel_queue_end, \
    .is_loss = noria_kernel_queue_is_loss

#endif
