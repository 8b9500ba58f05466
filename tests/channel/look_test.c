/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: who looks at a channel from outside, alive, dead, damaged, at its address or in a copied file, sees its words
 * and pieces as they are and nothing else, changes nothing, and is told in a sentence what does not go together.
 */
#define KINDS_TO_TEST {NORIA_KIND_SPSC, "shm"}
#include "variants_test.h"

#include <grp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "peers.h"
#include "segment_channel.h"
#include "shapes.h"

static char folder[64], copy[96];

static int with_folder(void **state)
{
    peers_begin();
    setup(state);
    snprintf(folder, sizeof(folder), "/var/tmp/noria-look-%d", (int)getpid());
    snprintf(copy, sizeof(copy), "%s/copy", folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    return 0;
}

static int without_folder(void **state)
{
    char command[128];

    peers_end();
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
    return teardown(state);
}

static void copy_channel(void)
{
    static uint8_t bytes[1 << 20];
    int from = open(ch.path, O_RDONLY | O_CLOEXEC), to = open(copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t got;

    while ((got = read(from, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(to, bytes, (size_t)got), got);
    assert_int_equal(got, 0);
    close(from);
    close(to);
}

/* --------------------------------------------------------------------------------------------------------- what is seen */

enum { MOST_WORDS = 4000 };
static struct seen {
    char part[32], field[48], text[96];
    uint64_t number, offset, value;
} seen[MOST_WORDS];
static int words, stop_after;

static int note(const struct noria_dumped *dumped, void *context)
{
    struct seen *word = &seen[words % MOST_WORDS];

    assert_ptr_equal(context, seen);
    snprintf(word->part, sizeof(word->part), "%s", dumped->part);
    snprintf(word->field, sizeof(word->field), "%s", dumped->field);
    snprintf(word->text, sizeof(word->text), "%s", dumped->text);
    word->number = dumped->number;
    word->offset = dumped->offset;
    word->value = dumped->value;
    words++;
    return words == stop_after ? 4711 : 0;
}

static int dump(const char *address)
{
    words = stop_after = 0;
    return noria_dump(address, note, seen);
}

static int count(const char *part, const char *text)
{
    int found = 0;

    for (int i = 0; i < words && i < MOST_WORDS; i++)
        found += strcmp(seen[i].part, part) == 0 && strstr(seen[i].text, text) != NULL;
    return found;
}

static const struct seen *find(const char *part, const char *field)
{
    for (int i = 0; i < words && i < MOST_WORDS; i++)
        if (strcmp(seen[i].part, part) == 0 && strcmp(seen[i].field, field) == 0)
            return &seen[i];
    fail_msg("there is no %s %s", part, field);
    return NULL;
}

static void make_shape(const struct shape *shape)
{
    take_shape(shape, &ch.options);
    ch.tx = open_handle(NORIA_SEND);
    ch.rx = open_handle(NORIA_RECV);
    noria_send(ch.tx, "12345", 5, 0); /* a rendezvous has nobody to give it to */
}

static void remove_shape(void)
{
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    assert_int_equal(noria_unlink(ch.address), 0);
}

static void every_kind_shows_its_words(void **state)
{
    /* Claim: of every kind of channel each word is shown with the value that stands at its offset, at the address and in
     * a copied file alike; the pieces of its ring say what they are. */
    static const struct {
        const char *part, *text;
    } pieces[SHAPES] = {{"record", "message of 5 bytes"}, {"slot", "FULL"},
                        {"record", "message of 13 bytes"}, /* with its seal */ {"slot", "FULL"},
                        {"slot", "FULL"}, {"slot of a level", "FULL"}, {"buffer", "length 5"}, {"slot", "FREE"},
                        {"range", "LIVE"}, {"cursor", "LIVE"}, {"cursor", "LIVE"}, {"role", "sender"}};

    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        int at_address, fd;
        make_shape(&shapes[i]);
        assert_int_equal(dump(ch.address), 0);
        at_address = words;
        assert_true(words < MOST_WORDS);
        if (count(pieces[i].part, pieces[i].text) == 0)
            fail_msg("%s shows no %s that is %s", shapes[i].name, pieces[i].part, pieces[i].text);
        assert_int_equal(find("superblock", "magic")->value, NORIA_SEGMENT_MAGIC);
        assert_int_equal(find("geometry", "max_participants")->value, 4);
        assert_int_equal(find("participant", "pid")->value, getpid());
        copy_channel();
        assert_int_equal(dump(copy), 0);
        assert_int_equal(words, at_address);
        fd = open(copy, O_RDONLY | O_CLOEXEC);
        for (int word = 0; word < words; word++) {
            uint64_t bytes = 0;
            assert_true(pread(fd, &bytes, 8, (off_t)seen[word].offset) >= 4);
            if (bytes != seen[word].value && (uint32_t)bytes != seen[word].value)
                fail_msg("%s: %s %s is shown as %llx", shapes[i].name, seen[word].part, seen[word].field,
                         (unsigned long long)seen[word].value);
        }
        close(fd);
        remove_shape();
    }
}

static void whoever_has_seen_enough_may_stop(void **state)
{
    /* Claim: what `each` returns after any word ends the dump, and is its result. */
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        int all;
        make_shape(&shapes[i]);
        assert_int_equal(dump(ch.address), 0);
        all = words;
        for (int k = 1; k <= all; k += k < 20 || k > all - 20 ? 1 : 7) {
            words = 0;
            stop_after = k;
            assert_int_equal(noria_dump(ch.address, note, seen), 4711);
            assert_int_equal(words, k);
        }
        remove_shape();
    }
}

static int take_one_too(const struct noria_dumped *dumped, void *context)
{
    uint8_t bytes[64];

    if (strcmp(dumped->part, "record") == 0)
        assert_true(noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL) >= 0);
    return note(dumped, context);
}

static void a_ring_is_walked_once(void **state)
{
    /* Claim: records are shown one after the other, each once, from where the receiver was at first, although he goes on
     * meanwhile: the walk does not begin anew for each. */
    (void)state;
    open_pair();
    for (unsigned i = 0; i < 8; i++)
        send_numbered(i, 10 + i);
    words = stop_after = 0;
    assert_int_equal(noria_dump(ch.address, take_one_too, seen), 0);
    for (int i = 0; i < 8; i++) {
        char text[32];
        snprintf(text, sizeof(text), "message of %d bytes", 10 + i);
        assert_int_equal(count("record", text), 1);
    }
    assert_int_equal(count("record", ""), 8);
}

static void pads_are_named(void **state)
{
    /* Claim: a pad at the end of an SPSC ring is shown as what it is. */
    bool padded = false;

    (void)state;
    ch.options.capacity = 4;
    open_pair();
    for (unsigned i = 0; i < 200 && !padded; i++) {
        send_numbered(i, 41);
        assert_int_equal(dump(ch.address), 0);
        padded = count("record", "pad of") == 1 && count("record", "message") == 1;
        expect(i, 41);
    }
    assert_true(padded);
}

static void hold_and_die(void)
{
    struct noria_span span;
    noria_channel *mine = open_handle(NORIA_RECV);

    PEER_REQUIRES(noria_peek(mine, &span, 0, NULL) == 0);
    say();
    await_end();
}

static void reserve_and_die(void)
{
    struct noria_span span;
    noria_channel *mine = open_handle(NORIA_SEND);

    PEER_REQUIRES(noria_reserve(mine, 5, &span, 0) == 0);
    say();
    await_end();
}

static void kill_one(void (*body)(void))
{
    pid_t peer = start_peer(body);

    await_peer();
    kill_peer(peer);
}

static void the_dead_are_seen(void **state)
{
    /* Claim: fsck counts the living, the dead and what these hold, in a copy, too, where nobody lives; it mends what it
     * is told to. The dump shows whose a slot is. */
    struct noria_health health = {0};
    struct noria_listing listing;
    pid_t peers_to_kill[2];

    (void)state;
    take_shape(&shapes[1], &ch.options);
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 5);
    send_numbered(2, 5);
    peers_to_kill[0] = start_peer(hold_and_die);
    peers_to_kill[1] = start_peer(reserve_and_die);
    for (int i = 0; i < 2; i++)
        await_peer();
    for (int i = 0; i < 2; i++)
        kill_peer(peers_to_kill[i]);
    assert_int_equal(dump(ch.address), 0);
    assert_int_equal(count("slot", "READING"), 1);
    assert_int_equal(count("slot", "WRITING"), 1);
    assert_int_equal(noria_fsck(ch.address, 0, &health), 0);
    assert_int_equal(health.condition, NORIA_CONDITION_OK);
    assert_int_equal(health.live, 1);
    assert_int_equal(health.dead, 2);
    assert_int_equal(health.held, 2);
    assert_int_equal(health.broken + health.repaired, 0);
    copy_channel();
    assert_int_equal(noria_fsck(copy, 0, &health), 0);
    assert_int_equal(health.condition, NORIA_CONDITION_OK);
    assert_int_equal(health.live + health.dead, 3);
    assert_int_equal(noria_who(copy, NULL, 0), 3);
    assert_int_equal(noria_inspect(copy, &listing), 0);
    assert_string_equal(listing.address, copy);
    assert_int_equal(listing.condition, NORIA_CONDITION_OK);
    assert_int_equal(listing.stat.kind, NORIA_KIND_MPMC);
    assert_int_equal(listing.stat.held, 1);
    assert_int_equal(listing.uid, geteuid());
    assert_int_equal(listing.mode, 0600);
    assert_fails(noria_fsck(copy, 1, &health), EINVAL);
    assert_int_equal(noria_fsck(ch.address, 1, &health), 0);
    assert_int_equal(health.repaired, 2);
    assert_int_equal(health.dead + health.held, 0);
    assert_int_equal(noria_fsck(ch.address, 0, NULL), -EINVAL);
}

/* --------------------------------------------------------------------------------------------- what does not go together */

static void patch(const char *path, uint64_t offset, uint64_t value, size_t size)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &value, size, (off_t)offset), size);
    close(fd);
}

static void broken_rings_are_told(void **state)
{
    /* Claim: a ring whose words contradict each other is broken, in use or not; so is a copy of it. */
    static const char *const fields[SHAPES] = {"read_pos", "slots", "read_pos", "slots", "slots", NULL, "owners", "slots",
                                               "tail", "capacity", "capacity", "capacity"};

    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        struct noria_health health = {0};
        uint64_t offset;
        make_shape(&shapes[i]);
        assert_int_equal(noria_fsck(ch.address, 0, &health), 0);
        assert_int_equal(health.broken, 0);
        assert_int_equal(dump(ch.address), 0);
        offset = fields[i] != NULL ? find("ring", fields[i])->offset
                                   : find("ring", "hints")->offset + sizeof(struct noria_priority) + 8; /* slots */
        copy_channel();
        patch(copy, offset, UINT64_C(0xffffffffffff), 8);
        assert_int_equal(noria_fsck(copy, 0, &health), 0);
        if (health.broken == 0 && health.condition == NORIA_CONDITION_OK)
            fail_msg("%s is not found broken", shapes[i].name);
        assert_true(dump(copy) == 0 || dump(copy) == -EBADMSG);
        assert_true(words > 20); /* what goes together in front of it */
        remove_shape();
    }
}

static void files_that_are_no_channels_are_told(void **state)
{
    /* Claim: a copy that is missing, empty, short, cut off, of another version or another thing, or that says it is larger
     * than it is, is an error with a sentence, or a finding; nothing is read beyond it. */
    struct noria_health health = {0};
    struct noria_listing listing;
    struct stat status;

    (void)state;
    open_pair();
    send_numbered(1, 5);
    assert_fails(dump(copy), ENOENT);
    assert_fails(noria_fsck(copy, 0, &health), ENOENT);
    assert_fails(noria_who(copy, NULL, 0), ENOENT);
    assert_fails(noria_inspect(copy, &listing), ENOENT);
    assert_fails(dump(folder), EINVAL);
    copy_channel();
    assert_int_equal(stat(copy, &status), 0);
    patch(copy, offsetof(struct noria_superblock, solid), (uint64_t)status.st_size + 1, 8);
    assert_fails(dump(copy), EBADMSG);
    copy_channel();
    patch(copy, offsetof(struct noria_superblock, size), UINT64_C(1) << 47, 8);
    assert_fails(dump(copy), EBADMSG);
    copy_channel();
    patch(copy, offsetof(struct noria_superblock, version), 99, 4);
    assert_fails(dump(copy), EPROTO);
    assert_int_equal(noria_fsck(copy, 0, &health), 0);
    assert_int_equal(health.condition, NORIA_CONDITION_VERSION);
    patch(copy, 0, NORIA_SEGMENT_UNFINISHED, 8);
    assert_fails(dump(copy), EBADMSG);
    patch(copy, 0, 1, 8);
    assert_fails(dump(copy), EINVAL);
    assert_fails(noria_fsck(copy, 0, &health), EINVAL);
    copy_channel();
    assert_int_equal(truncate(copy, status.st_size - 1), 0);
    assert_fails(dump(copy), EBADMSG);
    assert_int_equal(noria_fsck(copy, 0, &health), 0);
    assert_int_equal(health.condition, NORIA_CONDITION_CORRUPT);
    assert_int_equal(truncate(copy, 20), 0);
    assert_true(dump(copy) < 0);
    assert_int_equal(truncate(copy, 0), 0);
    assert_fails(dump(copy), EINVAL);
    copy_channel(); /* a segment, but no channel */
    patch(copy, offsetof(struct noria_superblock, size), NORIA_SEGMENT_CONTENT + 8, 8);
    assert_fails(dump(copy), EBADMSG);
    assert_true(words > 5);
    assert_fails(noria_dump(NULL, note, seen), EINVAL);
    assert_fails(noria_dump(copy, NULL, NULL), EINVAL);
    assert_fails(noria_dump("pipe:", note, seen), EINVAL);
    assert_fails(noria_dump("shm:/noria-is-not-there", note, seen), ENOENT);
}

static void unfinished_channels_are_told(void **state)
{
    /* Claim: what a creator has not finished is neither dumped nor listed as anything else, and nobody takes part in it. */
    struct noria_listing listing;
    int fd = open(ch.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    (void)state;
    assert_int_equal(ftruncate(fd, 8192), 0);
    patch(ch.path, 0, NORIA_SEGMENT_UNFINISHED, 8);
    assert_fails(dump(ch.address), EBADMSG);
    assert_int_equal(noria_inspect(ch.address, &listing), 0);
    assert_int_equal(listing.condition, NORIA_CONDITION_UNFINISHED);
    assert_int_equal(listing.footprint, 8192);
    assert_int_equal(noria_who(ch.address, NULL, 0), 0);
    close(fd);
}

static void sparse_copies_take_no_memory(void **state)
{
    /* Claim: a file that is nearly all holes, as large as a segment may be, is looked at without memory for the holes. */
    struct noria_health health = {0};

    (void)state;
    take_shape(&shapes[1], &ch.options);
    ch.tx = open_handle(NORIA_SEND);
    copy_channel();
    patch(copy, offsetof(struct noria_superblock, size), UINT64_C(1) << 40, 8);
    assert_int_equal(truncate(copy, INT64_C(1) << 40), 0);
    assert_int_equal(dump(copy), 0);
    assert_int_equal(noria_fsck(copy, 0, &health), 0);
    assert_int_equal(health.condition, NORIA_CONDITION_OK);
}

/* ----------------------------------------------------------------------------------------------------------------- lists */

static char listed[8][128];
static uint32_t conditions[8];
static int listings, stop_listing_after;

static int note_listing(const struct noria_listing *listing, void *context)
{
    (void)context;
    if (strstr(listing->address, "noria-") == NULL)
        return 0;
    snprintf(listed[listings % 8], sizeof(listed[0]), "%.127s", strrchr(listing->address, '/'));
    conditions[listings % 8] = listing->condition;
    listings++;
    return listings == stop_listing_after ? 815 : 0;
}

static int list_the_folder(void)
{
    listings = stop_listing_after = 0;
    return noria_list_folder(folder, note_listing, NULL);
}

static void make_file(const char *name)
{
    char address[160];
    noria_channel *channel = NULL;

    snprintf(address, sizeof(address), "file:%s/%s", folder, name);
    assert_int_equal(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &ch.options), 0);
    assert_int_equal(noria_close(channel), 0);
}

static void look_without_rights(void)
{
    struct noria_listing listing;
    char address[160];

    if (geteuid() == 0)
        PEER_REQUIRES(setgroups(0, NULL) == 0 && setresgid(65533, 65533, 65533) == 0 && setresuid(65533, 65533, 65533) == 0);
    PEER_REQUIRES(list_the_folder() == 0);
    PEER_REQUIRES(listings == 0); /* they do not say that they are noria's */
    snprintf(address, sizeof(address), "file:%s/b", folder);
    PEER_REQUIRES(noria_inspect(address, &listing) == 0);
    PEER_REQUIRES(listing.condition == NORIA_CONDITION_NO_ACCESS && listing.mode == 0600 && listing.uid != geteuid());
    PEER_REQUIRES(noria_who(address, NULL, 0) == -EACCES);
    PEER_REQUIRES(noria_dump(address, note, seen) == -EACCES && strlen(noria_detail()) > 10);
    snprintf(address, sizeof(address), "%s/b", folder);
    PEER_REQUIRES(noria_dump(address, note, seen) == -EACCES && strlen(noria_detail()) > 10);
    PEER_REQUIRES(noria_list(note_listing, NULL) == 0);
}

static void folders_are_listed(void **state)
{
    /* Claim: the channels of a directory are listed in order of name, damaged ones as such, other files not; it ends when
     * it is told to; who may not look sees what can be seen. */
    char other[160], deep[300];

    (void)state;
    make_file("b");
    make_file("a");
    make_file("c");
    snprintf(other, sizeof(other), "%s/text", folder);
    close(open(other, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    patch(other, 0, 0x74786574, 4);
    snprintf(other, sizeof(other), "%s/c", folder);
    assert_int_equal(truncate(other, 300), 0);
    snprintf(deep, sizeof(deep), "%s/%0230d", folder, 7); /* no address is so long */
    close(open(deep, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(list_the_folder(), 0);
    assert_int_equal(listings, 3);
    assert_string_equal(listed[0], "/a");
    assert_string_equal(listed[1], "/b");
    assert_string_equal(listed[2], "/c");
    assert_int_equal(conditions[0], NORIA_CONDITION_OK);
    assert_int_equal(conditions[2], NORIA_CONDITION_CORRUPT);
    listings = 0;
    stop_listing_after = 2;
    assert_int_equal(noria_list_folder(folder, note_listing, NULL), 815);
    assert_int_equal(listings, 2);
    assert_fails(noria_list_folder("/var/tmp/noria-is-not-there", note_listing, NULL), ENOENT);
    assert_fails(noria_list_folder(NULL, note_listing, NULL), EINVAL);
    assert_fails(noria_list_folder(folder, NULL, NULL), EINVAL);
    if (geteuid() == 0)
        expect_end(start_peer(look_without_rights));
}

static void participants_are_listed(void **state)
{
    /* Claim: who names up to n participants and counts all; one who died without closing is not alive. */
    struct noria_participant who[4] = {{0}};

    (void)state;
    take_shape(&shapes[1], &ch.options);
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 5);
    kill_one(hold_and_die);
    assert_int_equal(noria_who(ch.address, who, 1), 2);
    assert_int_equal(who[1].number, 0);
    assert_int_equal(noria_who(ch.address, who, 4), 2);
    assert_true(who[0].alive && who[0].pid == getpid() && who[0].sent == 1 && who[0].flags == NORIA_SEND);
    assert_true(!who[1].alive && who[1].held == 1 && who[1].flags == NORIA_RECV && !who[1].foreign);
    assert_fails(noria_who("shm:/noria-is-not-there", who, 4), ENOENT);
}

int main(void)
{
    static const struct named_test tests[] = {
        EVERYWHERE(every_kind_shows_its_words),
        EVERYWHERE(whoever_has_seen_enough_may_stop),
        EVERYWHERE(a_ring_is_walked_once),
        EVERYWHERE(pads_are_named),
        EVERYWHERE(the_dead_are_seen),
        EVERYWHERE(broken_rings_are_told),
        EVERYWHERE(files_that_are_no_channels_are_told),
        EVERYWHERE(unfinished_channels_are_told),
        EVERYWHERE(sparse_copies_take_no_memory),
        EVERYWHERE(folders_are_listed),
        EVERYWHERE(participants_are_listed),
    };

    return run_variants_with("look", tests, sizeof(tests) / sizeof(tests[0]), with_folder, without_folder);
}
