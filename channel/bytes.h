/* SPDX-License-Identifier: BSD-2-Clause */
/* Every field of every struct that stands in a segment. The list is what docs/LAYOUT.md shows. */
#ifndef NORIA_BYTES_H
#define NORIA_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include <noria/broadcast.h>
#include <noria/chain.h>
#include <noria/latest.h>
#include <noria/mpmc.h>
#include <noria/rendezvous.h>
#include <noria/spsc.h>

#include "layout.h"
#include "segment.h"

#define SUPERBLOCK(X) X(magic) X(version) X(features) X(size) X(id) X(boot) X(created_ns) X(solid) X(reserved)
#define GEOMETRY(X) \
    X(kind) X(order) X(pack) X(full) X(wait) X(orphans) X(lifetime) X(mode) X(trust) X(max_message) X(max_held) \
    X(max_participants) X(capacity) X(first_position) X(table_offset) X(ring_offset) X(ring_size) X(bell_offset) \
    X(bell_size) X(poll_offset) X(poll_size) X(max_bytes) X(evict_ns) X(priorities) X(checksum) X(reserved1)
#define WAITING_ROOM(X) X(count) X(polled) X(signals) X(reserved0) X(strategy) X(poll) X(reserved1)
#define HEADER(X) \
    X(geometry) X(rooms) X(roster) X(senders_joined) X(receivers_joined) X(deaths) X(redelivered) X(lost) \
    X(lost_told) X(missed) X(losses) X(torn) X(reserved3)
#define ENTRY(X) \
    X(word) X(start_time) X(pid_namespace) X(joined_ns) X(pid) X(signal) X(signal_value) X(image) X(program) \
    X(reserved0) X(sent) X(received) X(sent_before) X(received_before) X(dropping) X(dropped) X(lock_left) X(reserved1)
#define PRIORITY(X) X(hints) X(reserved0)
#define SPSC(X) X(magic) X(capacity) X(first_position) X(reserved0) X(role) X(reserved1) X(read_pos) X(reserved2)
#define MPMC(X) \
    X(magic) X(slots) X(capacity) X(first_position) X(max_message) X(pack) X(owners) X(slot_size) X(reserved0) \
    X(write_pos) X(reserved1) X(read_pos) X(reserved2) X(orphans) X(reserved3)
#define MPMC_SLOT(X) X(state) X(length) X(sender) X(sequence)
#define MPMC_GROUP(X) X(count) X(done)
#define LATEST(X) X(magic) X(max_message) X(owners) X(first_version) X(reserved0) X(current) X(reserved1)
#define LATEST_BUFFER(X) X(stamp) X(length) X(reserved0)
#define RENDEZVOUS(X) \
    X(magic) X(first_position) X(slots) X(max_message) X(owners) X(slot_size) X(reserved0) X(tickets) \
    X(reserved1) X(reach) X(reserved2)
#define RENDEZVOUS_SLOT(X) X(state) X(ticket) X(length) X(sender)
#define CHAIN(X) \
    X(magic) X(size) X(first_slots) X(first_position) X(max_message) X(owners) X(ranges) X(reserved0) \
    X(reserved1) X(tail) X(reserved2)
#define BROADCAST(X) \
    X(magic) X(capacity) X(first_position) X(mode) X(owners) X(reserved0) X(sender) X(listeners) X(most_owner) \
    X(reserved1) X(kept) X(marked) X(reserved2) X(marks)
#define BROADCAST_MARK(X) X(position) X(sequence)
#define BROADCAST_CURSOR(X) X(life) X(position) X(reserved)

#define ALL_STRUCTS(Y) \
    Y(noria_superblock, SUPERBLOCK) Y(noria_geometry, GEOMETRY) Y(noria_waiting_room, WAITING_ROOM) \
    Y(noria_header, HEADER) Y(noria_entry, ENTRY) Y(noria_priority, PRIORITY) Y(noria_spsc, SPSC) \
    Y(noria_mpmc, MPMC) Y(noria_mpmc_slot, MPMC_SLOT) Y(noria_mpmc_group, MPMC_GROUP) Y(noria_latest, LATEST) \
    Y(noria_latest_buffer, LATEST_BUFFER) Y(noria_rendezvous, RENDEZVOUS) \
    Y(noria_rendezvous_slot, RENDEZVOUS_SLOT) Y(noria_chain, CHAIN) Y(noria_broadcast, BROADCAST) \
    Y(noria_broadcast_mark, BROADCAST_MARK) Y(noria_broadcast_cursor, BROADCAST_CURSOR)

/* A field as data. */
struct noria_field {
    const char *name; /* NULL: the end */
    uint32_t offset, size;
};

/* Fields of a list that lie without a hole: the compiler had nothing to choose, whatever its word size. A field
 * that is missing in the list fails here, too. */
#define NORIA_FIELD_SIZE(field) +sizeof(((struct_in_question *)NULL)->field)
#define NORIA_FIELD(field) {#field, offsetof(struct_in_question, field), sizeof(((struct_in_question *)NULL)->field)},

/* static const struct noria_field fields[]: those of a struct; to be used in a block. */
#define NORIA_FIELDS_OF(name, LIST) \
    typedef struct name struct_in_question; \
    NORIA_STATIC_ASSERT((0 LIST(NORIA_FIELD_SIZE)) == sizeof(struct_in_question), "no hole in " #name); \
    static const struct noria_field fields[] = {LIST(NORIA_FIELD){NULL, 0, 0}}

#endif
