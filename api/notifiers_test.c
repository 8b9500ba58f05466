/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Claim: a signal of noria_notify_signal goes to whom it is for and to nobody else, whatever stands in the
 * segment and whatever becomes of the process; a notifier that dies, is stopped, or cannot send delays it at
 * most.
 */
#include "signals_test.h"

#include <sys/resource.h>

#include "segment_channel.h"

/* ------------------------------------------------------------------------------------- whom it is not for */

/* In ticks of 10 ms. */
static uint64_t start_time_of(pid_t pid)
{
    unsigned long long ticks = 0;
    char path[32];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
                            "%*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks), 1);
    fclose(file);
    return ticks;
}

/* The signals that wait for a process, bit n - 1 for signal n. */
static uint64_t pending_for(pid_t pid)
{
    unsigned long long pending = 0;
    char path[32], line[128];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL && sscanf(line, "ShdPnd: %llx", &pending) != 1)
        continue;
    fclose(file);
    return pending;
}

static struct noria_entry *entry_of(pid_t pid)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(ch.tx);
    uint32_t number = 0;

    while (channel->table[number].pid != pid || channel->table[number].signal == 0)
        number++;
    return &channel->table[number];
}

static void assert_dealt_with(const struct noria_entry *entry)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(ch.tx);

    assert_true(noria_load_acquire32(&entry->signal) != 0); /* not armed any more */
    assert_int_equal(
        noria_load_acquire32(&channel->shared->rooms[NORIA_SIDE_RECV].count) & NORIA_EVENT_SLEEPERS, 0);
}

/* A child that has registered, and waits to be killed. */
static void registered_life(void)
{
    noria_channel *rx = open_in_child(NORIA_RECV);

    if (noria_notify_signal(rx, SIGNAL, NORIA_NOTIFY_ALWAYS) != 0)
        _exit(1);
    mark();
}

static void stranger_life(void)
{
    mark(); /* a signal that comes stays pending */
    _exit(count_signals(SIGNAL) == 0 && count_signals(SIGUSR1) == 0 ? 0 : 1);
}

static void reused_pid_is_not_hit(void **state)
{
    /* Claim: a registered process was killed, and its number is another's now: that one gets no signal. */
    struct noria_entry *entry;
    pid_t registered, stranger;

    (void)state;
    known = ch.tx = open_handle(NORIA_SEND);
    registered = start_stepped(registered_life);
    entry = entry_of(registered);
    end_stepped(registered);
    stranger = start_stepped(stranger_life);
    while (start_time_of(stranger) == entry->start_time) { /* of the same tick: cannot be told apart */
        end_stepped(stranger);
        stranger = start_stepped(stranger_life);
    }
    entry->pid = stranger;
    send_numbered(1, 8);
    assert_dealt_with(entry);
    assert_int_equal(ptrace(PTRACE_CONT, stranger, NULL, NULL), 0);
    reap(stranger);
}

/* A program that has nothing to do with the channel; it inherits blocked signals, so one that comes stays. */
struct stranger {
    pid_t pid;
    int to, from;
};

static const char stranger_word[] = "--stranger";

static int be_stranger(void)
{
    char byte = 'x';
    sigset_t pending;

    if (write(STDOUT_FILENO, &byte, 1) != 1)
        return 2;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    sigpending(&pending);
    return sigismember(&pending, SIGNAL) == 0 ? 0 : 1;
}

/* Forks, has the child do `before`, if any, and become the other program. */
static struct stranger start_stranger(void (*before)(void))
{
    int to[2], from[2];
    struct stranger stranger;
    char byte = 0;

    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    fflush(NULL);
    stranger = (struct stranger){fork(), to[1], from[0]};
    assert_true(stranger.pid >= 0);
    if (stranger.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (before != NULL)
            before();
        if (dup2(to[0], STDIN_FILENO) < 0 || dup2(from[1], STDOUT_FILENO) < 0)
            _exit(3);
        execl("/proc/self/exe", "notifiers_test", stranger_word, (char *)NULL);
        _exit(4);
    }
    close(to[0]);
    close(from[1]);
    assert_int_equal(read(stranger.from, &byte, 1), 1);
    return stranger;
}

static void expect_unharmed(struct stranger *stranger)
{
    close(stranger->to);
    close(stranger->from);
    reap(stranger->pid);
}

static void forged_pid_is_not_hit(void **state)
{
    /* Claim: on a channel that others may write to, an entry that names a process which takes no part,
     * with its right start time, makes no sender signal it. */
    struct stranger stranger = start_stranger(NULL);
    struct noria_entry *entry, before;

    (void)state;
    ch.options.mode = 0660;
    open_pair();
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    drain(ch.rx);
    entry = entry_of(getpid());
    before = *entry;
    entry->pid = stranger.pid;
    entry->start_time = start_time_of(stranger.pid);
    send_numbered(1, 8);
    assert_dealt_with(entry);
    expect_unharmed(&stranger);
    assert_int_equal(count_signals(SIGNAL), 0);
    entry->pid = before.pid;
    entry->start_time = before.start_time;
    drain(ch.rx);
    send_numbered(1, 8);
    assert_int_equal(count_signals(SIGNAL), 1); /* put right, it is as ever */
}

static void forged_numbers_are_not_sent(void **state)
{
    /* Claim: an entry that asks for a signal which noria_notify_signal refuses gets none: neither those that
     * cannot be caught nor those of the C library, nor what is none. */
    static const uint32_t numbers[] = {SIGKILL, SIGSTOP, 32, 33, 65, 127, 255};
    const uint32_t armed = 0x200; /* as in notify.c */
    struct noria_segment_channel *channel;
    struct noria_entry *entry;
    pid_t registered;

    (void)state;
    known = ch.tx = open_handle(NORIA_SEND);
    channel = noria_segment_channel_of(ch.tx);
    registered = start_stepped(registered_life);
    entry = entry_of(registered);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        noria_store_release32(&entry->signal, numbers[i] | armed);
        noria_or_acq_rel32(&channel->shared->rooms[NORIA_SIDE_RECV].count, NORIA_EVENT_SLEEPERS);
        send_numbered(1, 8);
        assert_int_equal(waitpid(registered, NULL, WNOHANG), 0); /* it lives */
        assert_true(pending_for(registered) == 0);
    }
    noria_store_release32(&entry->signal, (uint32_t)SIGNAL | armed); /* such a word does count */
    noria_or_acq_rel32(&channel->shared->rooms[NORIA_SIDE_RECV].count, NORIA_EVENT_SLEEPERS);
    send_numbered(1, 8);
    assert_true(pending_for(registered) == UINT64_C(1) << (SIGNAL - 1));
    end_stepped(registered);
}

static void register_before_exec(void)
{
    noria_channel *rx = open_in_child(NORIA_RECV);

    if (noria_notify_signal(rx, SIGNAL, NORIA_NOTIFY_ALWAYS) != 0)
        _exit(1);
}

static void registration_goes_with_exec(void **state)
{
    /* Claim: a registered receiver becomes another program by exec, under the same number and start time:
     * that one gets no signal, as with mq_notify. */
    struct stranger stranger;
    struct noria_entry *entry;

    (void)state;
    known = ch.tx = open_handle(NORIA_SEND);
    stranger = start_stranger(register_before_exec);
    entry = entry_of(stranger.pid);
    assert_true(entry->start_time == start_time_of(stranger.pid));
    send_numbered(1, 8);
    assert_dealt_with(entry);
    expect_unharmed(&stranger);
}

/* ---------------------------------------------------------------------------- a notifier that cannot send */

static void set_limit(int resource, rlim_t value, struct rlimit *before)
{
    struct rlimit less;

    assert_int_equal(getrlimit((__rlimit_resource_t)resource, before), 0);
    less = (struct rlimit){value, before->rlim_max};
    assert_int_equal(setrlimit((__rlimit_resource_t)resource, &less), 0);
}

static void a_sender_that_cannot_signal_leaves_it_to_others(void **state)
{
    /* Claim: a sender at its limit of descriptors, or with the receiver's queue of signals full, passes its
     * message and does not use the registration up: the next message's sender signals. */
    static const struct {
        int resource;
        rlim_t value;
    } limits[] = {{RLIMIT_NOFILE, 3}, {RLIMIT_SIGPENDING, 0}};
    noria_channel *next;

    (void)state;
    open_pair();
    next = is_spsc() ? ch.tx : open_handle(NORIA_SEND);
    for (size_t i = 0; i < 4; i++) {
        int how = i < 2 ? NORIA_NOTIFY_ONCE : NORIA_NOTIFY_ALWAYS;
        struct rlimit before;

        drain(ch.rx);
        assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, how), 0);
        set_limit(limits[i % 2].resource, limits[i % 2].value, &before);
        send_numbered(1, 8);
        assert_int_equal(setrlimit((__rlimit_resource_t)limits[i % 2].resource, &before), 0);
        assert_int_equal(count_signals(SIGNAL), 0);
        assert_int_equal(noria_send(next, "next", 4, 0), 0);
        assert_int_equal(count_signals(SIGNAL), 1);
    }
    if (next != ch.tx)
        close_handle(&next);
}

/* ---------------------------------------------------------------------------- a notifier that is killed */

static void notifier_life(void)
{
    noria_channel *tx = open_in_child(NORIA_SEND);

    mark();
    noria_send(tx, "news", 4, 0);
    mark();
}

static uint32_t *registration(void)
{
    struct noria_segment_channel *channel = noria_segment_channel_of(ch.rx);

    return &channel->table[channel->number - 1].signal;
}

/* Kills the notifier so many instructions after it took the registration. How many it made: fewer if it sent
 * the signal before. */
static int kill_after(pid_t notifier, int steps)
{
    uint32_t armed = noria_load_acquire32(registration());
    sigset_t pending;
    int made = 0;

    while (noria_load_acquire32(registration()) == armed)
        assert_true(step(notifier));
    for (;; made++) {
        sigpending(&pending);
        if (made == steps || sigismember(&pending, SIGNAL))
            break;
        assert_true(step(notifier));
    }
    end_stepped(notifier);
    return made;
}

static int killed_at(int how, int steps)
{
    pid_t notifier = start_stepped(notifier_life);
    noria_channel *other;
    siginfo_t info;
    int made;

    set_patience(20);
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, how), 0);
    assert_int_equal(drain(ch.rx), 0);
    count_signals(SIGNAL); /* that it joined was news */
    made = kill_after(notifier, steps);
    other = open_handle(0); /* whoever opens notices */
    assert_true(take_signal(SIGNAL, 0, &info));
    assert_ptr_equal(info.si_value.sival_ptr, ch.rx);
    assert_int_equal(drain(ch.rx), 1);
    close_handle(&other);
    return made;
}

static void killed_notifier_only_delays(void **state)
{
    /* Claim: a notifier killed between taking the registration and sending delays the signal until somebody
     * notices its death; the message was there. */
    (void)state;
    known = ch.rx = open_handle(NORIA_RECV);
    for (int how = NORIA_NOTIFY_ONCE; how <= NORIA_NOTIFY_ALWAYS; how++) {
        int length = killed_at(how, INT32_MAX), steps = 0;
        int stride = getenv("NORIA_LONG") != NULL ? 1 : 1 + length / 40;
        assert_true(length > 100); /* there is something in between */
        while (killed_at(how, steps) == steps)
            steps += stride;
        assert_true(steps > length / 2);
    }
}

static void leaver_life(void)
{
    noria_channel *tx = open_in_child(NORIA_SEND);

    mark();
    noria_close(tx);
    mark();
}

static void killed_leaver_only_delays(void **state)
{
    /* Claim: one that is killed while it closes its handle, when it has left the table already and taken the
     * registration, is found by its number: whoever gets the place next sends the signal. */
    (void)state;
    known = ch.rx = open_handle(NORIA_RECV);
    for (int how = NORIA_NOTIFY_ONCE; how <= NORIA_NOTIFY_ALWAYS; how++) {
        pid_t leaver = start_stepped(leaver_life);
        const struct noria_entry *entry = noria_segment_channel_of(ch.rx)->table + 1;
        noria_channel *next;
        uint32_t armed, taken;

        set_patience(20);
        assert_int_equal(entry->pid, leaver);
        while (NORIA_ENTRY_STATE(noria_load_acquire64(&entry->word)) != NORIA_ENTRY_FREE)
            assert_true(step(leaver));
        assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, how), 0);
        drain(ch.rx);
        count_signals(SIGNAL);
        armed = noria_load_acquire32(registration());
        while ((taken = noria_load_acquire32(registration())) == armed)
            assert_true(step(leaver));
        end_stepped(leaver);
        assert_int_equal(count_signals(SIGNAL), 0);
        next = open_handle(0);
        assert_int_equal(stat_of(next).self, taken >> 16);
        assert_int_equal(count_signals(SIGNAL), 1);
        close_handle(&next);
    }
}

static void one_taken_for_dead_leaves_its_successor_alone(void **state)
{
    /* Claim: a handle whose entry another has now, for it was taken for dead, neither registers there nor
     * arms or cancels what stands there. */
    struct noria_entry *entry;
    const uint32_t of_another = SIGUSR1;
    uint8_t bytes[64];
    uint64_t word;
    ssize_t rc;

    (void)state;
    open_pair();
    assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), 0);
    entry = entry_of(getpid());
    word = entry->word;
    noria_store_release64(&entry->word, word + NORIA_ENTRY_INCARNATION);
    noria_store_release32(&entry->signal, of_another);
    rc = noria_recv(ch.rx, bytes, sizeof(bytes), 0, NULL); /* an SPSC receiver learns by it what has happened */
    assert_true(rc == -EAGAIN || rc == -EOWNERDEAD);
    assert_int_equal(entry->signal, of_another);
    assert_fails(noria_notify_signal(ch.rx, SIGNAL, NORIA_NOTIFY_ALWAYS), EOWNERDEAD);
    assert_int_equal(noria_notify_signal(ch.rx, 0, NORIA_NOTIFY_ALWAYS), 0);
    assert_int_equal(noria_shutdown(ch.rx), 0);
    assert_int_equal(entry->signal, of_another);
    noria_store_release64(&entry->word, word);
}

/* ---------------------------------------------------------------------------- a notifier that is stopped */

static void stopped_notifier_only_delays(void **state)
{
    /* Claim (MPMC): with a notifier stopped between taking the registration and sending, every message is
     * there for a try; a try that finds nothing has an ALWAYS registration armed again, so that the next
     * message gives a signal; and once the stopped one goes on, its signal comes. */
    (void)state;
    known = ch.rx = open_handle(NORIA_RECV);
    for (int how = NORIA_NOTIFY_ONCE; how <= NORIA_NOTIFY_ALWAYS; how++) {
        pid_t notifier = start_stepped(notifier_life);
        noria_channel *other = open_handle(NORIA_SEND);
        uint32_t armed;
        siginfo_t info;

        set_patience(20);
        assert_int_equal(noria_notify_signal(ch.rx, SIGNAL, how), 0);
        drain(ch.rx);
        count_signals(SIGNAL);
        armed = noria_load_acquire32(registration());
        while (noria_load_acquire32(registration()) == armed)
            assert_true(step(notifier));
        assert_int_equal(count_signals(SIGNAL), 0);
        assert_int_equal(noria_send(other, "more", 4, 0), 0);
        assert_int_equal(drain(ch.rx), 2);
        count_signals(SIGNAL);
        assert_int_equal(noria_send(other, "more", 4, 0), 0);
        assert_int_equal(count_signals(SIGNAL), how == NORIA_NOTIFY_ALWAYS);
        run_to_mark(notifier, 0);
        assert_true(take_signal(SIGNAL, 0, &info));
        assert_ptr_equal(info.si_value.sival_ptr, ch.rx);
        assert_int_equal(drain(ch.rx), 1);
        end_stepped(notifier);
        close_handle(&other);
    }
}

int main(int argc, char **argv)
{
    static const struct named_test tests[] = {
        AT("shm", reused_pid_is_not_hit),
        AT("shm", forged_pid_is_not_hit),
        AT("shm", forged_numbers_are_not_sent),
        EVERYWHERE(registration_goes_with_exec),
        EVERYWHERE(a_sender_that_cannot_signal_leaves_it_to_others),
        AT("shm", killed_notifier_only_delays),
        AT("shm", killed_leaver_only_delays),
        ONCE(one_taken_for_dead_leaves_its_successor_alone),
        {"stopped_notifier_only_delays", stopped_notifier_only_delays, NORIA_KIND_MPMC, "shm"},
    };

    if (argc == 2 && strcmp(argv[1], stranger_word) == 0)
        return be_stranger();
    block_signals();
    return run_variants_with("notifiers", tests, sizeof(tests) / sizeof(tests[0]), setup_signals, teardown);
}
