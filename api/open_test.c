/* SPDX-License-Identifier: BSD-2-Clause */
/* Claim: opening, attaching, naming and removing channels does what was asked or says why not; nothing is
 * left behind. */
#include "variants_test.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "other_user_test.h"

/* ---------------------------------------------------------------------------------------------- addresses */

static void wrong_addresses_are_refused(void **state)
{
    /* Claim: what is no address is -EINVAL with a sentence, for every function that takes one. */
    static const char *const wrong[] = {"",           ":",        "x",        "/name",     "shm",
                                        "shm:",       "shm:name", "shm:/",    "shm:/a/b",  "shm:/..",
                                        "memfd:",     "memfd:x",  "memfd:-1", "memfd:3 ",  "anon:x",
                                        "file:x",     "file:/tmp/", "pipeline:3", "SHM:/x",   "shm :/x",  "shmshm:/x", "sh:/x"};
    noria_channel *untouched = (noria_channel *)(uintptr_t)64, *channel = untouched;
    struct noria_participant participant;
    struct noria_listing listing;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_fails(noria_open(&channel, wrong[i], NORIA_SEND | NORIA_CREATE, NULL), EINVAL);
        assert_fails(noria_open(&channel, wrong[i], NORIA_RECV, &ch.options), EINVAL);
        assert_ptr_equal(channel, untouched);
        assert_true(noria_unlink(wrong[i]) < 0);
        if (wrong[i][0] == '/') { /* which is the path of a file that can be looked at, if it is there */
            assert_fails(noria_inspect(wrong[i], &listing), ENOENT);
            assert_fails(noria_who(wrong[i], &participant, 1), ENOENT);
        } else {
            assert_fails(noria_inspect(wrong[i], &listing), EINVAL);
            assert_fails(noria_who(wrong[i], &participant, 1), EINVAL);
        }
        assert_fails(noria_remove(wrong[i], 0), EINVAL);
    }
}

static void names_may_be_long(void **state)
{
    /* Claim: a name of up to 250 characters works in every call; a longer one is an error with a sentence. */
    char address[400] = "shm:/";
    noria_channel *channel;
    struct noria_listing listing;
    size_t length;

    (void)state;
    for (length = strlen(address); length < 4 + 250; length++)
        address[length] = 'n';
    address[length] = '\0';
    assert_int_equal(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, NULL), 0);
    assert_int_equal(noria_inspect(address, &listing), 0);
    assert_string_equal(listing.address, address);
    close_handle(&channel);
    assert_int_equal(noria_unlink(address), 0);
    address[length] = 'n';
    address[length + 1] = '\0';
    assert_fails(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, NULL), ENAMETOOLONG);
    assert_true(noria_unlink(address) < 0);
}

static void addresses_and_options_are_copied(void **state)
{
    /* Claim: once open, a handle needs neither the address, nor the options, nor the descriptor of
     * a memfd. */
    char address[64];
    struct noria_options options = ch.options;

    (void)state;
    options.lifetime = NORIA_UNLINK_LAST;
    strcpy(address, ch.address);
    assert_int_equal(noria_open(&ch.tx, address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &options), 0);
    memset(address, 'x', sizeof(address) - 1);
    memset(&options, 0xff, sizeof(options));
    if (ch.memfd >= 0) {
        close(ch.memfd);
        ch.memfd = -1;
    }
    send_numbered(1, 10);
    expect_on(ch.tx, 1, 10);
    close_handle(&ch.tx);
    if (has_name())
        assert_false(name_exists()); /* the name was known to the end */
}

/* -------------------------------------------------------------------------------------- flags and options */

static void wrong_flags_are_refused(void **state)
{
    /* Claim: unknown flags, and EXCL without CREATE, are -EINVAL. */
    static const int wrong[] = {16, -1, 1 << 30, NORIA_EXCL, NORIA_EXCL | NORIA_SEND};
    noria_channel *channel;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_fails(noria_open(&channel, ch.address, wrong[i], &ch.options), EINVAL);
}

/* One option at a time with a value that cannot be; 0 where only some error is promised. */
static void try_option(size_t offset, uint64_t value, size_t size, int error)
{
    struct noria_options options = ch.options;
    noria_channel *channel = NULL;
    int rc;

    memcpy((uint8_t *)&options + offset, &value, size);
    rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &options);
    if (error != 0)
        assert_int_equal(rc, -error);
    assert_true(rc < 0);
    assert_true(strlen(noria_detail()) > 10);
    if (has_name())
        assert_false(name_exists());
}
#define WITH(field, value, error)                                                                            \
    try_option(offsetof(struct noria_options, field), value, sizeof(ch.options.field), error)

static void wrong_options_are_refused(void **state)
{
    /* Claim: every option value that is unknown, zero where that makes no sense, or too large for any ring is
     * an error with a sentence, and no channel is made. */
    (void)state;
    WITH(size, 0, EINVAL);
    WITH(size, 3, EINVAL);
    WITH(size, 5000, EINVAL);
    WITH(size, UINT32_MAX, EINVAL);
    WITH(kind, 0, EINVAL);
    WITH(kind, 4, EINVAL);
    WITH(kind, UINT32_MAX, EINVAL);
    WITH(order, NORIA_ORDER_PRODUCER, ENOTSUP);
    WITH(order, 2, EINVAL);
    WITH(pack, 0, EINVAL);
    WITH(pack, UINT32_MAX, EINVAL);
    WITH(capacity, UINT64_MAX, EINVAL);
    WITH(capacity, UINT64_C(1) << 63, EINVAL);
    WITH(capacity, UINT64_C(1) << 40, EINVAL);
    WITH(max_held, 0, EINVAL);
    WITH(max_participants, 0, EINVAL);
    WITH(max_participants, 65536, EINVAL);
    WITH(max_participants, UINT32_MAX, EINVAL);
    WITH(full, 4, EINVAL);
    WITH(start, 3, EINVAL);
    WITH(priorities, 33, EINVAL);
    WITH(evict_ns, (uint64_t)-1, EINVAL);
    WITH(evict_ns, 1, EINVAL);
    WITH(wait, 8, EINVAL);
    WITH(orphans, 2, EINVAL);
    WITH(lifetime, 3, EINVAL);
    WITH(trust, 2, EINVAL);
    WITH(recheck_ns, 0, EINVAL);
    WITH(recheck_ns, (uint64_t)-1, EINVAL);
    WITH(open_timeout_ns, (uint64_t)-2, EINVAL);
    WITH(wait_create_ns, (uint64_t)-7, EINVAL);
    WITH(sigpipe_ignored, 2, EINVAL);
    WITH(reader_copies, 2, EINVAL);
    signal(SIGPIPE, SIG_DFL);
    WITH(sigpipe_ignored, 1, EINVAL);
    if (is_spsc()) {
        WITH(pack, 2, EINVAL);
        WITH(orphans, NORIA_ORPHANS_DROP, EINVAL);
        WITH(full, NORIA_FULL_OVERWRITE_OLDEST, EINVAL);
        WITH(priorities, 2, EINVAL);
        WITH(max_bytes, 1 << 20, EINVAL);
        WITH(capacity, 0, EINVAL);
    } else {
        WITH(max_held, UINT32_MAX, EINVAL);
        WITH(max_message, UINT32_MAX, EINVAL);
    }
}

static void extremes_that_are_possible_work(void **state)
{
    /* Claim: the smallest and the largest legal values make channels that work. */
    (void)state;
    ch.options.capacity = 1;
    ch.options.max_message = 0;
    ch.options.max_held = 1;
    ch.options.max_participants = 2;
    open_pair();
    assert_int_equal(noria_send(ch.tx, NULL, 0, 0), 0);
    assert_int_equal(noria_recv(ch.rx, NULL, 0, 0, NULL), 0);
    assert_fails(noria_send(ch.tx, "x", 1, 0), EMSGSIZE);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    remove_name();
    if (ch.memfd >= 0)
        return;
    ch.options.max_message = 1;
    ch.options.max_held = 1000;
    ch.options.max_participants = is_at("sysv") ? 30000 : 65535; /* a set of semaphores may have 32000 */
    ch.options.recheck_ns = INT64_MAX;
    ch.options.wait_create_ns = INT64_MAX;
    ch.options.open_timeout_ns = INT64_MAX;
    ch.options.first_position = UINT64_MAX;
    if (!is_spsc())
        ch.options.max_held = 10;
    open_pair();
    send_numbered(1, 1);
    expect(1, 1);
}

static void options_may_be_of_another_version(void **state)
{
    /* Claim: a shorter struct of an older program keeps the other defaults; a longer one of a newer one is
     * read as far as it is known. */
    struct {
        struct noria_options options;
        uint8_t newer[64];
    } longer;
    struct noria_stat stat;

    (void)state;
    memset(&longer, 0xee, sizeof(longer));
    longer.options = ch.options;
    longer.options.size = sizeof(longer);
    assert_int_equal(noria_open(&ch.tx, ch.address, NORIA_SEND | NORIA_CREATE, &longer.options), 0);
    assert_int_equal(stat_of(ch.tx).capacity, 8);
    close_handle(&ch.tx);
    remove_name();
    if (ch.memfd >= 0)
        return;
    memset(&longer, 0xee, sizeof(longer));
    longer.options.size = offsetof(struct noria_options, order);
    longer.options.kind = ch.variant->kind; /* and nothing behind it */
    assert_int_equal(noria_open(&ch.tx, ch.address, NORIA_SEND | NORIA_CREATE, &longer.options), 0);
    stat = stat_of(ch.tx);
    assert_int_equal(stat.kind, ch.variant->kind);
    assert_int_equal(stat.capacity, 1024);
    assert_int_equal(stat.max_message, 256);
    assert_int_equal(stat.max_held, 1);
    assert_int_equal(stat.max_participants, 64);
    assert_int_equal(stat.pack, 1);
    assert_int_equal(stat.mode, 0600);
    assert_int_equal(stat.order + stat.full + stat.wait + stat.orphans + stat.lifetime + stat.trust, 0);
}

/* In a child that the kernel kills first, should it come to that: a regression must not take others along. */
static int open_twice_the_memory(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC), rc;
    noria_channel *channel;
    struct sysinfo memory;

    if (fd < 0 || write(fd, "1000", 4) != 4 || sysinfo(&memory) != 0)
        return 2;
    close(fd);
    ch.options.max_message = 1 << 20;
    ch.options.capacity = 2 * (uint64_t)(memory.totalram + memory.totalswap) * memory.mem_unit >> 20;
    rc = noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options);
    if (rc != -ENOSPC && rc != -ENOMEM)
        return 3;
    return strstr(noria_detail(), "bytes") != NULL ? 0 : 4;
}

static void too_large_a_channel_is_refused(void **state)
{
    /* Claim: a channel of twice the machine's memory is -ENOSPC or -ENOMEM with the figures in the sentence;
     * it leaves no name, and nobody is killed for it. */
    int status;
    pid_t pid;

    (void)state;
    if (is_at("file"))
        skip(); /* a disk may well have it */
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        _exit(open_twice_the_memory());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    if (has_name())
        assert_false(name_exists());
}

static int open_with_short_files(void)
{
    const struct rlimit limit = {4096, 4096};
    noria_channel *channel;

    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 2;
    if (noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) != -EFBIG)
        return 3;
    return strstr(noria_detail(), "ulimit") != NULL ? 0 : 4;
}

static void limits_of_files_are_told(void **state)
{
    /* Claim: a process that may not write files of that size gets -EFBIG with a sentence, not SIGXFSZ; no
     * name is left. */
    int status;
    pid_t pid;

    (void)state;
    if (is_at("sysv"))
        skip(); /* no file */
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        _exit(open_with_short_files()); /* not exit: a coverage build writes files there */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    if (has_name())
        assert_false(name_exists());
}

/* -------------------------------------------------------------------------------------- create and attach */

static void geometry_of_the_first_wins(void **state)
{
    /* Claim: CREATE on a channel that is there attaches, and its own geometry counts. */
    struct noria_options other;
    struct noria_stat stat;

    (void)state;
    open_pair();
    other = ch.options;
    other.capacity = 1000;
    other.max_message = 10;
    other.max_held = 1;
    other.max_participants = 2;
    other.full = NORIA_FULL_FAIL;
    other.lifetime = NORIA_UNLINK_LAST;
    close_handle(&ch.rx);
    assert_int_equal(noria_open(&ch.rx, ch.address, NORIA_RECV | NORIA_CREATE, &other), 0);
    stat = stat_of(ch.rx);
    assert_int_equal(stat.capacity, 8);
    assert_int_equal(stat.max_message, 64);
    assert_int_equal(stat.max_held, 3);
    assert_int_equal(stat.max_participants, 8);
    assert_int_equal(stat.full, NORIA_FULL_BLOCK);
    assert_int_equal(stat.lifetime, NORIA_PERSIST);
    close_handle(&ch.rx);
    assert_int_equal(noria_open(&ch.rx, ch.address, NORIA_RECV, NULL), 0); /* and no options are no wishes */
    send_numbered(1, 64);
    expect(1, 64);
}

static void expect_contradiction(const struct noria_options *options, const char *said, const char *said_too)
{
    noria_channel *channel;

    assert_fails(noria_open(&channel, ch.address, NORIA_RECV | NORIA_CREATE, options), EINVAL);
    assert_non_null(strstr(noria_detail(), said));
    assert_non_null(strstr(noria_detail(), said_too));
    /* Who does not ask for a channel to be made has no say in what it is. */
    assert_int_equal(noria_open(&channel, ch.address, 0, options), 0);
    assert_int_equal(noria_close(channel), 0);
}

static void contradictions_are_refused(void **state)
{
    /* Claim: attaching with another kind, or a larger max_message, is -EINVAL with both values in the
     * sentence. */
    struct noria_options other;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    other = ch.options;
    other.kind = is_spsc() ? NORIA_KIND_MPMC : NORIA_KIND_SPSC;
    expect_contradiction(&other, "spsc", "mpmc");
    other = ch.options;
    other.max_message = 65;
    expect_contradiction(&other, "64", "65");
    assert_int_equal(stat_of(ch.tx).receivers, 0);
}

static void exclusive_creation_wants_a_free_name(void **state)
{
    /* Claim: EXCL is -EEXIST where a channel is, and makes one where none is. */
    noria_channel *second;

    (void)state;
    assert_int_equal(noria_open(&ch.tx, ch.address, NORIA_SEND | NORIA_CREATE | NORIA_EXCL, &ch.options), 0);
    assert_fails(noria_open(&second, ch.address, NORIA_RECV | NORIA_CREATE | NORIA_EXCL, &ch.options),
                 EEXIST);
    ch.rx = open_handle(NORIA_RECV);
    send_numbered(1, 1);
    expect(1, 1);
}

static void missing_channel_is_told(void **state)
{
    /* Claim: without CREATE a channel that is not there is -ENOENT, at once or after wait_create_ns. */
    noria_channel *channel;
    int64_t start = now_ns();

    (void)state;
    assert_fails(noria_open(&channel, ch.address, NORIA_RECV, &ch.options), ENOENT);
    ch.options.wait_create_ns = 40 * MS;
    assert_fails(noria_open(&channel, ch.address, NORIA_RECV, &ch.options), ENOENT);
    assert_true(now_ns() - start >= 40 * MS);
}

static void anonymous_channels_are_always_new(void **state)
{
    /* Claim: two opens of anon: are two channels. */
    noria_channel *other;

    (void)state;
    open_pair();
    assert_int_equal(noria_open(&other, "anon:", NORIA_SEND, &ch.options), 0);
    assert_int_equal(noria_send(other, "x", 1, 0), 0);
    expect_nothing(EAGAIN);
    close_handle(&other);
}

static void messages_outlive_the_handles(void **state)
{
    /* Claim: a channel with a name, or whose memfd is kept, keeps its messages when nobody has it open. */
    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 30);
    close_handle(&ch.tx);
    ch.rx = open_handle(NORIA_RECV);
    expect(1, 30);
}

static void another_segment_is_not_a_channel(void **state)
{
    /* Claim: a file that is no segment is -EINVAL, and stays as it was. */
    static const char text[] = "shopping list, not a channel";
    char back[sizeof(text)] = {0};
    noria_channel *channel;
    int fd = ch.memfd >= 0 ? dup(ch.memfd) : open(ch.path, O_RDWR | O_CREAT, 0600);

    (void)state;
    assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
    assert_fails(noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options), EINVAL);
    assert_fails(noria_open(&channel, ch.address, NORIA_RECV, &ch.options), EINVAL);
    assert_true(noria_unlink(ch.address) < 0);
    assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back));
    assert_string_equal(back, text);
    close(fd);
}

/* ------------------------------------------------------------------------------------ roles and the table */

static void spsc_roles_are_taken_once(void **state)
{
    /* Claim (SPSC): a second sender or receiver is -EBUSY while the first lives, also of one handle with both
     * roles. */
    noria_channel *second;

    (void)state;
    open_pair();
    assert_fails(try_open(&second, NORIA_SEND), EBUSY);
    assert_non_null(strstr(noria_detail(), "sender"));
    assert_fails(try_open(&second, NORIA_RECV), EBUSY);
    assert_non_null(strstr(noria_detail(), "receiver"));
    assert_fails(try_open(&second, NORIA_SEND | NORIA_RECV), EBUSY);
    close_handle(&ch.tx);
    assert_fails(try_open(&second, NORIA_SEND | NORIA_RECV), EBUSY); /* and gives back the role it got */
    ch.tx = open_handle(NORIA_SEND);
    send_numbered(1, 1);
    expect(1, 1);
    assert_int_equal(stat_of(ch.tx).senders + stat_of(ch.tx).receivers, 2);
}

static void table_of_participants_has_an_end(void **state)
{
    /* Claim: max_participants handles, observers included, are open at a time; one more is -EBUSY until one
     * closes. */
    noria_channel *handles[8] = {NULL}, *one_more;

    (void)state;
    ch.tx = open_handle(NORIA_SEND);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 7; i++)
            handles[i] = open_handle(is_spsc() || i % 2 == 0 ? 0 : NORIA_RECV);
        assert_fails(try_open(&one_more, 0), EBUSY);
        assert_non_null(strstr(noria_detail(), "max_participants"));
        close_handle(&handles[3]);
        handles[3] = open_handle(0);
        for (int i = 0; i < 7; i++)
            close_handle(&handles[i]);
    }
}

/* ------------------------------------------------------------------------------------ names and lifetimes */

static void removed_channels_live_on_without_a_name(void **state)
{
    /* Claim: unlink takes the name; open handles go on; a new open makes a new channel; twice is -ENOENT. */
    noria_channel *fresh;

    (void)state;
    open_pair();
    if (!has_name()) {
        assert_fails(noria_unlink(ch.address), ENOTSUP);
        return;
    }
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_fails(noria_unlink(ch.address), ENOENT);
    send_numbered(1, 1);
    assert_fails(noria_open(&fresh, ch.address, NORIA_RECV, NULL), ENOENT);
    assert_int_equal(noria_open(&fresh, ch.address, NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    assert_int_equal(stat_of(fresh).messages, 0);
    expect(1, 1);
    close_handle(&fresh);
}

static void last_handle_may_take_the_name_along(void **state)
{
    /* Claim: with lifetime UNLINK_LAST the name goes with the last handle, whatever its role, and
     * not before. */
    noria_channel *observer;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    for (int round = 0; round < 3; round++) {
        open_pair();
        observer = open_handle(0);
        close_handle(&ch.tx);
        close_handle(&ch.rx);
        assert_int_equal(name_exists(), has_name());
        close_handle(&observer);
        if (has_name())
            assert_false(name_exists());
        else
            return;
    }
}

static void last_handle_leaves_anothers_name_alone(void **state)
{
    /* Claim: with UNLINK_LAST a channel whose name was removed and taken by a new one does not
     * remove that. */
    noria_channel *fresh;

    (void)state;
    ch.options.lifetime = NORIA_UNLINK_LAST;
    open_pair();
    assert_int_equal(noria_unlink(ch.address), 0);
    assert_int_equal(noria_open(&fresh, ch.address, NORIA_RECV | NORIA_CREATE, &ch.options), 0);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    assert_true(name_exists());
    close_handle(&fresh);
    assert_false(name_exists());
}

static void permissions_are_the_options(void **state)
{
    /* Claim: the name's permissions are options.mode, whatever the umask; stat tells them. */
    struct noria_listing listing;
    mode_t old = umask(0077);
    int rc;

    (void)state;
    ch.options.mode = 0664;
    rc = try_open(&ch.tx, NORIA_SEND);
    umask(old);
    assert_int_equal(rc, 0);
    assert_int_equal(stat_of(ch.tx).mode, 0664);
    if (has_name()) {
        assert_int_equal(noria_inspect(ch.address, &listing), 0);
        assert_int_equal(listing.mode, 0664);
    }
}

enum { MEMBER = 65534, SHARED_GROUP = 12345 };

/* What somebody of that group can do: take part, and be rung for. */
static void take_part_as_member(void)
{
    const gid_t groups[] = {SHARED_GROUP};
    noria_channel *channel;
    char byte;

    if (setgroups(1, groups) != 0 || setresgid(MEMBER, MEMBER, MEMBER) != 0 || setresuid(MEMBER, MEMBER, MEMBER) != 0)
        _exit(1);
    ch.options.foreign = 1;
    if (noria_open(&channel, ch.address, NORIA_SEND | NORIA_RECV, &ch.options) != 0 ||
        noria_recv(channel, &byte, 1, 0, NULL) != 1 || noria_recv(channel, &byte, 1, MS, NULL) != -ETIMEDOUT ||
        noria_fd(channel, NORIA_SEND) < 0 || noria_close(channel) != 0) {
        print_message("%s: %s\n", ch.address, noria_detail());
        _exit(2);
    }
    _exit(0);
}

static void make_without_being_a_member(void)
{
    noria_channel *channel = NULL;

    if (setgroups(0, NULL) != 0 || setresgid(MEMBER, MEMBER, MEMBER) != 0 || setresuid(MEMBER, MEMBER, MEMBER) != 0)
        _exit(1);
    if (noria_open(&channel, ch.address, NORIA_SEND | NORIA_CREATE, &ch.options) != -EPERM ||
        strstr(noria_detail(), "group 12345") == NULL || channel != NULL)
        _exit(2);
    _exit(0);
}

static void run_as_child(void (*run)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0)
        run();
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void group_is_the_options(void **state)
{
    /* Claim: name, locks and bells are of options.group, so that others of that group can take part whichever way they wait; a
     * group that is not the creator's to give is -EPERM, and nothing is left. (System V lets an owner give to any group.) */
    static const uint32_t waits[] = {NORIA_WAIT_FUTEX, NORIA_WAIT_SEMAPHORE, NORIA_WAIT_SYSV_SEMAPHORE, NORIA_WAIT_FIFO};
    struct noria_listing listing;

    (void)state;
    if (geteuid() != 0 || !may_become(MEMBER))
        skip();
    ch.options.group = SHARED_GROUP;
    ch.options.mode = 0660;
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        ch.options.wait = waits[i];
        ch.tx = open_handle(NORIA_SEND);
        send_numbered(1, 1);
        assert_int_equal(noria_inspect(ch.address, &listing), 0);
        assert_int_equal(listing.gid, SHARED_GROUP);
        assert_int_equal(listing.uid, 0);
        assert_int_equal(listing.mode, 0660);
        if (is_spsc()) /* it has one sender */
            close_handle(&ch.tx);
        run_as_child(take_part_as_member);
        close_handle(&ch.tx);
        assert_int_equal(noria_unlink(ch.address), 0);
    }
    ch.options.wait = NORIA_WAIT_FUTEX;
    if (is_at("sysv"))
        return;
    run_as_child(make_without_being_a_member);
    assert_false(name_exists());
}

/* --------------------------------------------------------------------------------------------- inspection */

struct found {
    const char *address;
    int times, stop_with, calls;
    struct noria_listing listing;
    char last[264];
};

static int note(const struct noria_listing *listing, void *context)
{
    struct found *found = context;

    /* In order of name within each kind of address. */
    assert_true(strcmp(found->last, listing->address) < 0 || strncmp(listing->address, "sysv:", 5) == 0);
    snprintf(found->last, sizeof(found->last), "%s", listing->address);
    found->calls++;
    if (strcmp(listing->address, found->address) == 0) {
        found->times++;
        found->listing = *listing;
        return found->stop_with;
    }
    return 0;
}

static void channels_are_listed(void **state)
{
    /* Claim: list names each channel once, in order, with its figures; it stops when it is told to. */
    struct found found = {.address = ch.address};
    struct noria_listing listing;

    (void)state;
    open_pair();
    send_numbered(1, 10);
    assert_int_equal(noria_list(note, &found), 0);
    assert_int_equal(found.times, has_name() && !is_at("file")); /* of the files on disks there is no list */
    if (found.times == 0)
        return;
    assert_int_equal(found.listing.condition, NORIA_CONDITION_OK);
    assert_int_equal(found.listing.mode, 0600);
    assert_int_equal(found.listing.uid, getuid());
    assert_int_equal(found.listing.gid, getgid());
    assert_int_equal(found.listing.stat.messages, 1);
    assert_int_equal(found.listing.stat.bytes, 10);
    assert_int_equal(found.listing.stat.senders, 1);
    assert_int_equal(found.listing.stat.receivers, 1);
    assert_int_equal(found.listing.footprint, stat_of(ch.tx).footprint);
    assert_true(found.listing.created_ns == stat_of(ch.tx).created_ns);
    assert_int_equal(noria_inspect(ch.address, &listing), 0);
    assert_memory_equal(&listing.stat, &found.listing.stat, sizeof(listing.stat));
    found = (struct found){.address = ch.address, .stop_with = 7};
    assert_int_equal(noria_list(note, &found), 7);
    assert_string_equal(found.last, ch.address);
}

static void participants_are_told(void **state)
{
    /* Claim: who names each handle with its role, process, holdings and traffic, and counts those that did
     * not fit. */
    struct noria_participant who[8];
    struct noria_span span;
    int sender, receiver;

    (void)state;
    open_pair();
    send_numbered(1, 10);
    send_numbered(2, 10);
    expect(1, 10);
    assert_int_equal(noria_peek(ch.rx, &span, 0, NULL), 0);
    if (!has_name()) {
        assert_fails(noria_who(ch.address, who, 8), EINVAL);
        return;
    }
    assert_int_equal(noria_who(ch.address, who, 8), 2);
    sender = who[0].flags == NORIA_SEND ? 0 : 1;
    receiver = 1 - sender;
    assert_int_equal(who[sender].flags, NORIA_SEND);
    assert_int_equal(who[receiver].flags, NORIA_RECV);
    assert_int_equal(who[sender].number, stat_of(ch.tx).self);
    assert_int_equal(who[receiver].number, stat_of(ch.rx).self);
    assert_int_equal(who[sender].sent, 2);
    assert_int_equal(who[receiver].received, 1);
    assert_true(is_spsc() || who[receiver].held == 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(who[i].pid, getpid());
        assert_int_equal(who[i].alive, 1);
        assert_int_equal(who[i].foreign, 0);
        assert_true(who[i].joined_ns > 0);
    }
    assert_int_equal(noria_who(ch.address, who, 1), 2);
    assert_int_equal(noria_who(ch.address, NULL, 0), 2);
    assert_int_equal(noria_release(ch.rx, &span), 0);
}

static void counts_begin_with_the_handle(void **state)
{
    /* Claim: a handle that takes a place others had before has its own traffic only; the channel's
     * goes on. */
    struct noria_participant who[8];

    (void)state;
    open_pair();
    send_numbered(1, 1);
    expect(1, 1);
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    open_pair();
    send_numbered(2, 1);
    assert_int_equal(noria_who(ch.address, who, 8), 2);
    assert_int_equal(who[0].sent + who[1].sent, 1);
    assert_int_equal(who[0].received + who[1].received, 0);
    assert_int_equal(stat_of(ch.tx).sent, 2);
    assert_int_equal(stat_of(ch.tx).received, 1);
}

static void used_channels_are_not_removed(void **state)
{
    /* Claim: remove is -EBUSY while handles are attached, unless forced; without them it unlinks. */
    (void)state;
    if (!has_name()) {
        assert_fails(noria_remove(ch.address, 1), EINVAL);
        return;
    }
    assert_fails(noria_remove(ch.address, 0), ENOENT);
    open_pair();
    assert_fails(noria_remove(ch.address, 0), EBUSY);
    assert_true(name_exists());
    assert_int_equal(noria_remove(ch.address, 1), 0);
    assert_false(name_exists());
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    open_pair();
    close_handle(&ch.tx);
    close_handle(&ch.rx);
    assert_int_equal(noria_remove(ch.address, 0), 0);
    assert_false(name_exists());
}

static struct found found_by_another;

static int look_as_nobody(void)
{
    struct noria_listing listing;

    if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
        return 77;
    found_by_another = (struct found){.address = ch.address};
    if (noria_list(note, &found_by_another) != 0 || found_by_another.times != 1)
        return 2;
    if (found_by_another.listing.condition != NORIA_CONDITION_NO_ACCESS || found_by_another.listing.uid != 0)
        return 3;
    if (noria_inspect(ch.address, &listing) != 0 || listing.condition != NORIA_CONDITION_NO_ACCESS)
        return 4;
    if (noria_who(ch.address, NULL, 0) != -EACCES || noria_unlink(ch.address) != -EACCES)
        return 5;
    return noria_remove(ch.address, 1) == -EACCES && strlen(noria_detail()) > 10 ? 0 : 6;
}

static void private_channels_are_told_as_such(void **state)
{
    /* Claim: a channel of mode 0600 is listed for another user as one without access, with its owner, and
     * nothing more. */
    int status;
    pid_t pid;

    (void)state;
    if (!may_become(65534)) {
        print_message("skipped: only root can become another user\n");
        skip();
    }
    open_pair();
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        exit(look_as_nobody());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(name_exists());
}

static void broken_channels_are_listed_as_such(void **state)
{
    /* Claim: an unfinished segment, one of another version and a truncated one are listed with their
     * condition, can be looked at without harm, and be removed; a stranger's file is not listed. */
    static const uint32_t version = 77;
    struct found found = {.address = ch.address};
    int fd;

    (void)state;
    fd = open(ch.path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(noria_list(note, &found), 0);
    assert_int_equal(found.listing.condition, NORIA_CONDITION_UNFINISHED);
    assert_int_equal(noria_who(ch.address, NULL, 0), 0);
    assert_int_equal(noria_remove(ch.address, 0), 0);
    close(fd);
    ch.tx = open_handle(NORIA_SEND);
    fd = open(ch.path, O_RDWR);
    close_handle(&ch.tx);
    assert_int_equal(pwrite(fd, &version, 4, 8), 4);
    found = (struct found){.address = ch.address};
    assert_int_equal(noria_list(note, &found), 0);
    assert_int_equal(found.listing.condition, NORIA_CONDITION_VERSION);
    assert_fails(noria_open(&ch.tx, ch.address, NORIA_SEND, NULL), EPROTO);
    assert_fails(noria_who(ch.address, NULL, 0), EPROTO);
    assert_int_equal(noria_remove(ch.address, 0), 0);
    close(fd);
    ch.tx = open_handle(NORIA_SEND);
    close_handle(&ch.tx);
    assert_int_equal(truncate(ch.path, 1000), 0);
    found = (struct found){.address = ch.address};
    assert_int_equal(noria_list(note, &found), 0);
    assert_int_equal(found.listing.condition, NORIA_CONDITION_CORRUPT);
    assert_fails(noria_open(&ch.tx, ch.address, NORIA_SEND, NULL), EBADMSG);
    assert_fails(noria_who(ch.address, NULL, 0), EBADMSG);
    assert_int_equal(noria_remove(ch.address, 0), 0);
    fd = open(ch.path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(write(fd, "text", 4), 4);
    close(fd);
    found = (struct found){.address = ch.address};
    assert_int_equal(noria_list(note, &found), 0);
    assert_int_equal(found.times, 0);
    assert_fails(noria_remove(ch.address, 1), EINVAL);
    assert_int_equal(access(ch.path, F_OK), 0);
}

int main(void)
{
    static const struct named_test tests[] = {
        ONCE(wrong_addresses_are_refused),
        ONCE(names_may_be_long),
        EVERYWHERE(addresses_and_options_are_copied),
        ONCE(wrong_flags_are_refused),
        EVERYWHERE(wrong_options_are_refused),
        EVERYWHERE(extremes_that_are_possible_work),
        EVERYWHERE(options_may_be_of_another_version),
        EVERYWHERE(too_large_a_channel_is_refused),
        EVERYWHERE(limits_of_files_are_told),
        BY_NAME(geometry_of_the_first_wins),
        AT("memfd", geometry_of_the_first_wins),
        BY_NAME(contradictions_are_refused),
        AT("memfd", contradictions_are_refused),
        BY_NAME(exclusive_creation_wants_a_free_name),
        AT("memfd", exclusive_creation_wants_a_free_name),
        BY_NAME(missing_channel_is_told),
        AT("memfd", missing_channel_is_told),
        ONCE(anonymous_channels_are_always_new),
        BY_NAME(messages_outlive_the_handles),
        AT("memfd", messages_outlive_the_handles),
        AT("shm", another_segment_is_not_a_channel),
        AT("memfd", another_segment_is_not_a_channel),
        ONLY_SPSC(spsc_roles_are_taken_once),
        EVERYWHERE(table_of_participants_has_an_end),
        EVERYWHERE(removed_channels_live_on_without_a_name),
        EVERYWHERE(last_handle_may_take_the_name_along),
        BY_NAME(last_handle_leaves_anothers_name_alone),
        EVERYWHERE(permissions_are_the_options),
        BY_NAME(group_is_the_options),
        EVERYWHERE(channels_are_listed),
        EVERYWHERE(participants_are_told),
        AT("shm", counts_begin_with_the_handle),
        EVERYWHERE(used_channels_are_not_removed),
        AT("shm", private_channels_are_told_as_such),
        AT("shm", broken_channels_are_listed_as_such),
    };

    return run_variants("open", tests, sizeof(tests) / sizeof(tests[0]));
}
