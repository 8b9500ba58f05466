/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: the latest-value cell gives each reader whole messages only, newer and newer ones, and at the end
 * the newest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <watched_test.h>

#include <noria/latest.h>

enum { WRITERS = 3, READERS = 3, WORDS = 13, BYTES = WORDS * 8 - 3, SENDS = 60000 };

static struct {
    _Alignas(NORIA_CACHE_LINE) unsigned char memory[8192];
    uint32_t writing;
    uint64_t last[WRITERS];
} cell;

static void format(uint32_t max_message, uint32_t owners, uint64_t first)
{
    assert_true(noria_latest_footprint(max_message, owners) <= sizeof(cell.memory));
    memset(cell.memory, 0xee, sizeof(cell.memory));
    assert_int_equal(noria_latest_format(cell.memory, sizeof(cell.memory), max_message, owners, first), 0);
}

static void fill(unsigned char *bytes, uint64_t number)
{
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (unsigned char)((number >> (i % 8 * 8)) + i / 8);
}

static uint64_t number_in(const unsigned char *bytes)
{
    unsigned char expected[BYTES];
    uint64_t number;

    memcpy(&number, bytes, sizeof(number));
    fill(expected, number);
    return memcmp(bytes, expected, BYTES) == 0 ? number : UINT64_MAX;
}

static void *write_on(void *argument)
{
    uint64_t me = (uint64_t)(uintptr_t)argument;
    struct noria_latest_handle h;
    unsigned char bytes[BYTES];

    if (noria_latest_join(&h, cell.memory, sizeof(cell.memory), (uint32_t)me + 1) != 0)
        abort();
    for (uint64_t i = 1; i <= SENDS; i++) {
        fill(bytes, me << 32 | i);
        if (noria_latest_send(&h, bytes, BYTES) < 0)
            abort();
    }
    noria_sub_release32(&cell.writing, 1);
    return NULL;
}

/* NULL, or what was wrong. */
static void *read_on(void *argument)
{
    struct noria_latest_handle h;
    struct noria_latest_message message;
    unsigned char bytes[BYTES];
    uint64_t last[WRITERS] = {0}, version = 0;
    bool over = false;

    (void)argument;
    /* Readers write nothing: one owner. */
    if (noria_latest_join(&h, cell.memory, sizeof(cell.memory), WRITERS + 1) != 0)
        return (void *)(uintptr_t)"join";
    for (;;) {
        uint64_t number;
        int rc = noria_latest_recv(&h, bytes, sizeof(bytes), &message);
        if (rc == -EAGAIN && over)
            return NULL;
        if (rc == -EAGAIN) {
            over = noria_load_acquire32(&cell.writing) == 0;
            sched_yield();
            continue;
        }
        number = rc == 0 && message.len == BYTES ? number_in(bytes) : UINT64_MAX;
        if (number == UINT64_MAX || number >> 32 >= WRITERS || message.sender != (number >> 32) + 1)
            return (void *)(uintptr_t)"a message is not whole";
        if ((uint32_t)number <= last[number >> 32])
            return (void *)(uintptr_t)"a message is older than one before";
        if (version != 0 && message.version - message.missed - 1 != version)
            return (void *)(uintptr_t)"what was missed is counted wrong";
        last[number >> 32] = (uint32_t)number;
        version = message.version;
    }
}

static void readers_see_whole_messages_in_order(void **state)
{
    pthread_t writers[WRITERS], readers[READERS];

    (void)state;
    format(BYTES, WRITERS + 1, 5);
    cell.writing = WRITERS;
    for (uintptr_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_on, NULL), 0);
    for (uintptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_on, (void *)i), 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    for (int i = 0; i < READERS; i++) {
        void *wrong;
        pthread_join(readers[i], &wrong);
        if (wrong != NULL)
            fail_msg("%s", (const char *)wrong);
    }
    assert_true(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
}

static void who_is_late_loses_to_the_newer(void **state)
{
    /* Claim: a send during which another one publishes is overwritten at once: readers never see it after
     * the other. */
    struct noria_latest_handle a, b, reader;
    struct noria_latest_message message;
    uint64_t before, one = 1, two = 2, got;

    (void)state;
    format(8, 3, 0);
    assert_int_equal(noria_latest_join(&a, cell.memory, sizeof(cell.memory), 1), 0);
    assert_int_equal(noria_latest_join(&b, cell.memory, sizeof(cell.memory), 2), 0);
    assert_int_equal(noria_latest_join(&reader, cell.memory, sizeof(cell.memory), 3), 0);
    before = noria_load_relaxed64(&a.cell->current);
    assert_int_equal(noria_latest_send(&b, &two, 8), 0);
    /* a's swap, from the word it had loaded before. */
    assert_false(noria_cas_acq_rel64(&a.cell->current, &before, before + (UINT64_C(1) << 17) + 2));
    assert_int_equal(noria_latest_recv(&reader, &got, 8, &message), 0);
    assert_int_equal(got, 2);
    assert_int_equal(noria_latest_send(&a, &one, 8), 0);
    assert_int_equal(noria_latest_recv(&reader, &got, 8, &message), 0);
    assert_int_equal(got, 1);
}

static void a_half_written_buffer_harms_nobody(void **state)
{
    /* Claim: a writer that died in the middle leaves the current message as it is; its successor goes on. */
    struct noria_latest_handle writer, reader;
    struct noria_latest_message message;
    uint64_t one = 1, two = 2, got;
    struct noria_latest_buffer *other;

    (void)state;
    format(8, 2, 0);
    assert_int_equal(noria_latest_join(&writer, cell.memory, sizeof(cell.memory), 1), 0);
    assert_int_equal(noria_latest_join(&reader, cell.memory, sizeof(cell.memory), 2), 0);
    assert_int_equal(noria_latest_send(&writer, &one, 8), 0);
    other = noria_latest_buffer_at(&writer, 1, ~noria_load_relaxed64(&writer.cell->current) & 1);
    other->stamp = 2 << 1 | 1;
    memset(noria_latest_words(other), 0x77, 8);
    assert_int_equal(noria_latest_recv(&reader, &got, 8, &message), 0);
    assert_int_equal(got, 1);
    assert_int_equal(noria_latest_join(&writer, cell.memory, sizeof(cell.memory), 1), 0);
    assert_int_equal(noria_latest_send(&writer, &two, 8), 0);
    assert_int_equal(noria_latest_recv(&reader, &got, 8, &message), 0);
    assert_int_equal(got, 2);
}

/* -------------------------------------------------------------------------- calls that meet in the middle */

static struct noria_latest_handle writers[2], reader;
static uint64_t sent_so_far;
static int accesses_left, sends_to_intrude;
static struct noria_latest_handle *intruder;
static jmp_buf death;

static void send_next(struct noria_latest_handle *h)
{
    unsigned char bytes[BYTES];

    fill(bytes, ++sent_so_far);
    assert_true(noria_latest_send(h, bytes, BYTES) >= 0);
}

static uint64_t receive_number(void)
{
    struct noria_latest_message message;
    unsigned char bytes[BYTES];
    int rc = noria_latest_recv(&reader, bytes, sizeof(bytes), &message);

    if (rc == -EAGAIN)
        return 0;
    assert_int_equal(rc, 0);
    assert_int_equal(message.len, BYTES);
    assert_true(number_in(bytes) != UINT64_MAX);
    return number_in(bytes);
}

static void intrude(const void *word)
{
    (void)word;
    if (accesses_left-- == 0)
        for (int i = 0; i < sends_to_intrude; i++)
            send_next(intruder);
}

static void die(const void *word)
{
    (void)word;
    if (accesses_left-- == 0)
        longjmp(death, 1);
}

static void open_two(void)
{
    format(BYTES, 3, 0);
    for (uint32_t i = 0; i < 2; i++)
        assert_int_equal(noria_latest_join(&writers[i], cell.memory, sizeof(cell.memory), i + 1), 0);
    assert_int_equal(noria_latest_join(&reader, cell.memory, sizeof(cell.memory), 3), 0);
    sent_so_far = 0;
}

static void an_overtaken_reader_gets_whole_messages(void **state)
{
    /* Claim: however many messages are sent, by whom, in front of whichever access of a receive, it gives
     * a whole one that was current during the call; one send by the same writer does not even disturb it. */
    (void)state;
    for (int at = 0; at < 2 * WORDS + 12; at++)
        for (int n = 0; n <= 5; n++)
            for (int who = 0; who < 2; who++) {
                uint64_t got;
                open_two();
                send_next(&writers[0]);
                accesses_left = at;
                sends_to_intrude = n;
                intruder = &writers[who];
                watch.before = intrude;
                got = receive_number();
                watch.before = NULL;
                assert_true(got >= 1 && got <= sent_so_far);
                if (got < sent_so_far)
                    assert_int_equal(receive_number(), sent_so_far);
                assert_int_equal(receive_number(), 0);
            }
}

static void an_overtaken_writer_is_overwritten(void **state)
{
    /* Claim: another writer's sends in front of whichever access of a send: what is current afterwards is
     * the newest of those that were published, and no reader sees an older one after it. */
    (void)state;
    for (int at = 0; at < WORDS + 6; at++)
        for (int n = 0; n <= 3; n++) {
            unsigned char bytes[BYTES];
            uint64_t got;
            int rc;
            open_two();
            send_next(&writers[1]);
            sent_so_far = 100;
            accesses_left = at;
            sends_to_intrude = n;
            intruder = &writers[1];
            fill(bytes, 50);
            watch.before = intrude;
            rc = noria_latest_send(&writers[0], bytes, BYTES);
            watch.before = NULL;
            got = receive_number();
            /* Overwritten at once by what was published meanwhile. */
            assert_int_equal(got, rc == 0 ? 50 : sent_so_far);
            assert_true(rc == 0 || n > 0);
            assert_int_equal(receive_number(), 0);
            send_next(&writers[0]);
            assert_int_equal(receive_number(), sent_so_far);
        }
}

/* Dies in front of access `at`. In a function of its own, so that nothing of the caller is lost on the way
 * back. */
static bool send_and_die(int at)
{
    unsigned char bytes[BYTES];

    fill(bytes, 99);
    accesses_left = at;
    watch.before = die;
    if (setjmp(death) == 0) {
        noria_latest_send(&writers[0], bytes, BYTES);
        watch.before = NULL;
        return false;
    }
    watch.before = NULL;
    watch.busy = false;
    return true;
}

static void a_writer_killed_anywhere_harms_nobody(void **state)
{
    /* Claim: killed in front of any access of a send: the message before is still current and whole, as
     * often as it happens; its successor's sends come through. */
    (void)state;
    for (int at = 0; at < WORDS + 5; at++) {
        open_two();
        for (int lives = 0; lives < 3; lives++) {
            send_next(&writers[lives % 2]);
            assert_true(send_and_die(at));
            assert_int_equal(receive_number(), sent_so_far);
            assert_int_equal(noria_latest_join(&writers[0], cell.memory, sizeof(cell.memory), 1), 0);
        }
    }
}

static void hostile_words_are_survived(void **state)
{
    /* Claim: whatever stands in current, stamps and lengths, no access leaves the cell: an error, or a
     * wrong message. */
    struct noria_latest_handle h;
    struct noria_latest_message message;
    unsigned char bytes[16];
    uint64_t seed = 88172645463325252;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        int rc;
        format(16, 2, 0);
        assert_int_equal(noria_latest_join(&h, cell.memory, sizeof(cell.memory), 1), 0);
        for (int k = 0; k < 4; k++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            memcpy(cell.memory + 128 + seed % (noria_latest_footprint(16, 2) - 136) / 8 * 8, &seed, 8);
        }
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        noria_store_relaxed64(&h.cell->current, i % 2 == 0 ? seed : 1 << 17 | (seed & 7));
        rc = noria_latest_recv(&h, bytes, sizeof(bytes), &message);
        assert_true(rc == 0 || rc == -EAGAIN || rc == -EBADMSG || rc == -EMSGSIZE);
        assert_int_equal(noria_latest_send(&h, bytes, sizeof(bytes)), 0);
    }
}

static void hostile_lengths_are_bounded(void **state)
{
    /* Claim: a length that no message of this cell has is -EBADMSG, however large the reader's buffer, and
     * nothing is copied; an owner that cannot be is -EBADMSG before its buffer is looked for. */
    unsigned char bytes[512], untouched[512];
    struct noria_latest_message message;
    uint64_t current;

    (void)state;
    open_two();
    memset(untouched, 0x33, sizeof(untouched));
    for (uint64_t which = 0; which < 4; which++) {
        send_next(&writers[0]);
        memcpy(bytes, untouched, sizeof(bytes));
        current = noria_load_relaxed64(&reader.cell->current);
        noria_latest_buffer_at(&reader, 1, current & 1)->length = which % 2 == 0 ? BYTES + 1 : UINT32_MAX;
        assert_int_equal(noria_latest_recv(&reader, bytes, which < 2 ? sizeof(bytes) : 8, &message),
                         -EBADMSG);
        assert_memory_equal(bytes, untouched, sizeof(bytes));
    }
    noria_store_relaxed64(&reader.cell->current, current + (UINT64_C(1) << NORIA_LATEST_VERSION_SHIFT) + 6);
    assert_int_equal(noria_latest_recv(&reader, bytes, sizeof(bytes), &message), -EBADMSG);
    send_next(&writers[1]);
    assert_int_equal(receive_number(), sent_so_far);
}

static void lengths_have_borders(void **state)
{
    /* Claim: a message may have max_message bytes, or none; one more is refused and changes nothing. One
     * longer than the reader's buffer says its length and stays; it is counted as missed by nobody. */
    unsigned char bytes[BYTES + 1] = {0}, before[sizeof(cell.memory)];
    struct noria_latest_message message;

    (void)state;
    open_two();
    assert_int_equal(noria_latest_send(&writers[0], bytes, 0), 0);
    assert_int_equal(noria_latest_recv(&reader, NULL, 0, &message), 0);
    assert_int_equal(message.len, 0);
    memcpy(before, cell.memory, sizeof(before));
    assert_int_equal(noria_latest_send(&writers[0], bytes, BYTES + 1), -EMSGSIZE);
    assert_memory_equal(before, cell.memory, sizeof(before));
    send_next(&writers[0]);
    assert_int_equal(noria_latest_recv(&reader, bytes, BYTES - 1, &message), -EMSGSIZE);
    assert_int_equal(message.len, BYTES);
    assert_int_equal(noria_latest_recv(&reader, bytes, BYTES, &message), 0);
    assert_int_equal(number_in(bytes), sent_so_far);
    assert_int_equal(message.missed, 0);
}

static void geometry_is_checked(void **state)
{
    /* Claim: what cannot be a cell has no footprint, is not formatted, and is not joined. */
    struct noria_latest *head = (struct noria_latest *)(void *)cell.memory;
    struct noria_latest_handle h;
    size_t need = noria_latest_footprint(16, 2);

    (void)state;
    assert_int_equal(noria_latest_footprint(16, 0), 0);
    assert_int_equal(noria_latest_footprint(16, 0x10000), 0);
    assert_int_equal(noria_latest_footprint(NORIA_LATEST_MAX_MESSAGE + 1, 1), 0);
    assert_int_equal(noria_latest_format(cell.memory, need, 16, 0, 0), -EINVAL);
    assert_int_equal(noria_latest_format(cell.memory, need - 1, 16, 2, 0), -EINVAL);
    assert_int_equal(noria_latest_format(cell.memory + 8, need, 16, 2, 0), -EINVAL);
    assert_int_equal(noria_latest_format(cell.memory, need, 16, 2, 0), 0);
    assert_int_equal(noria_latest_join(&h, cell.memory, need, 2), 0);
    assert_int_equal(noria_latest_join(&h, cell.memory, need, 0), -EINVAL);
    assert_int_equal(noria_latest_join(&h, cell.memory, need, 3), -EINVAL);
    assert_int_equal(noria_latest_join(&h, cell.memory, sizeof(*head) - 1, 1), -EBADMSG);
    assert_int_equal(noria_latest_join(&h, cell.memory + 8, need, 1), -EBADMSG);
    assert_int_equal(noria_latest_join(&h, cell.memory, need - 1, 1), -EBADMSG);
    head->owners = 0;
    assert_int_equal(noria_latest_join(&h, cell.memory, need, 1), -EBADMSG);
    head->owners = 2;
    head->magic++;
    assert_int_equal(noria_latest_join(&h, cell.memory, need, 1), -EBADMSG);
}

static void versions_wrap(void **state)
{
    /* Claim: over the wrap of the version, too, each message comes once, and what is missed is counted: by
     * who was there, and by who joins at any version. */
    struct noria_latest_message message;
    unsigned char bytes[BYTES];

    (void)state;
    for (uint64_t missed = 0; missed < 4; missed++) {
        format(BYTES, 3, NORIA_LATEST_VERSIONS - 3);
        assert_int_equal(noria_latest_join(&writers[0], cell.memory, sizeof(cell.memory), 1), 0);
        assert_int_equal(noria_latest_join(&reader, cell.memory, sizeof(cell.memory), 3), 0);
        for (int round = 0; round < 6; round++) {
            struct noria_latest_handle late;
            for (uint64_t i = 0; i <= missed; i++)
                send_next(&writers[0]);
            assert_int_equal(noria_latest_join(&late, cell.memory, sizeof(cell.memory), 2), 0);
            assert_int_equal(noria_latest_recv(&reader, bytes, BYTES, &message), 0);
            assert_int_equal(number_in(bytes), sent_so_far);
            assert_int_equal(message.missed, missed);
            assert_int_equal(receive_number(), 0);
            assert_int_equal(noria_latest_recv(&late, bytes, BYTES, &message), 0);
            assert_int_equal(number_in(bytes), sent_so_far);
            assert_int_equal(message.missed, 0);
        }
    }
}

static void a_hint_says_what_a_receive_would(void **state)
{
    /* Claim: may_receive is true exactly when a receive by that handle finds a message. */
    (void)state;
    open_two();
    assert_false(noria_latest_may_receive(&reader));
    assert_int_equal(receive_number(), 0);
    for (int i = 0; i < 3; i++) {
        send_next(&writers[i % 2]);
        assert_true(noria_latest_may_receive(&reader));
        assert_int_equal(receive_number(), sent_so_far);
        assert_false(noria_latest_may_receive(&reader));
    }
    assert_int_equal(noria_latest_join(&reader, cell.memory, sizeof(cell.memory), 3), 0);
    assert_true(noria_latest_may_receive(&reader)); /* a newcomer gets what is current */
}

static uint64_t taken_by_the_other;

static void other_thread_receives(const void *word)
{
    (void)word;
    if (accesses_left-- == 0)
        taken_by_the_other = receive_number();
}

static void threads_share_a_handle(void **state)
{
    /* Claim: of two threads that receive with one handle, one in front of any access of the other, exactly
     * one gets the message. */
    int others = 0;

    (void)state;
    for (int at = 0; at < WORDS + 8; at++) {
        uint64_t mine;
        open_two();
        send_next(&writers[0]);
        taken_by_the_other = 0;
        accesses_left = at;
        watch.before = other_thread_receives;
        mine = receive_number();
        watch.before = NULL;
        assert_int_equal(mine + taken_by_the_other, sent_so_far);
        others += taken_by_the_other != 0;
    }
    assert_true(others > WORDS);
}

static void always_publish(const void *word)
{
    if (word == &reader.cell->current) {
        send_next(&writers[0]);
        send_next(&writers[0]);
    } else if (accesses_left-- == 0) {
        send_next(&writers[0]);
        send_next(&writers[0]);
        accesses_left = 3;
    }
}

static void a_reader_always_overtaken_gives_up(void **state)
{
    /* Claim: a receive that is overtaken in each of its copies ends with -EAGAIN after RESTARTS of them, and
     * the next one is none the worse. */
    (void)state;
    open_two();
    send_next(&writers[0]);
    accesses_left = 3;
    watch.before = always_publish;
    assert_int_equal(receive_number(), 0);
    watch.before = NULL;
    assert_int_equal(sent_so_far > 2 * NORIA_LATEST_RESTARTS, 1);
    assert_int_equal(receive_number(), sent_so_far);
}

static void invariant_sees_damage(void **state)
{
    /* Claim: the invariant holds before and after a message, and sees a current one that is not whole. */
    struct noria_latest *head = (struct noria_latest *)(void *)cell.memory;
    struct noria_latest_buffer *buffer;
    uint64_t current;

    (void)state;
    open_two();
    assert_true(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
    send_next(&writers[1]);
    assert_true(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
    current = head->current;
    buffer = noria_latest_buffer_at(&reader, 2, current & 1);
    buffer->stamp |= 1;
    assert_false(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
    buffer->stamp ^= 1;
    buffer->length = BYTES + 1;
    assert_false(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
    buffer->length = BYTES;
    head->current = current + (4 << 1); /* owner 6 of 3 */
    assert_false(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
    head->current = current;
    assert_true(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
    head->magic = 0;
    assert_false(noria_latest_invariant(cell.memory, sizeof(cell.memory)));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_whole_messages_in_order),
        cmocka_unit_test(who_is_late_loses_to_the_newer),
        cmocka_unit_test(a_half_written_buffer_harms_nobody),
        cmocka_unit_test(an_overtaken_reader_gets_whole_messages),
        cmocka_unit_test(an_overtaken_writer_is_overwritten),
        cmocka_unit_test(a_writer_killed_anywhere_harms_nobody),
        cmocka_unit_test(hostile_words_are_survived),
        cmocka_unit_test(hostile_lengths_are_bounded),
        cmocka_unit_test(lengths_have_borders),
        cmocka_unit_test(geometry_is_checked),
        cmocka_unit_test(versions_wrap),
        cmocka_unit_test(a_hint_says_what_a_receive_would),
        cmocka_unit_test(threads_share_a_handle),
        cmocka_unit_test(a_reader_always_overtaken_gives_up),
        cmocka_unit_test(invariant_sees_damage),
    };

    return cmocka_run_group_tests_name("latest", tests, NULL, NULL);
}
