/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * noria: messages between processes through shared memory, in channels that no stopped or dying process can
 * wedge.
 *
 *     noria_channel *ch;
 *     noria_open(&ch, "shm:/orders", NORIA_SEND | NORIA_CREATE, NULL);
 *     noria_send(ch, "hello", 5, -1);
 *     noria_close(ch);
 *
 * Results by sign: 0 or a count is done, negative is -errno; outputs are untouched on failure.
 *
 *     -EAGAIN      full or empty, and the timeout was 0      -EPIPE      end of stream
 *     -ETIMEDOUT   full or empty until the deadline          -ECANCELED  the handle was shut down
 *     -EMSGSIZE    message or buffer of the wrong size       -ESTALE     handle inherited over fork: noria_reopen
 *     -EBUSY       role or quota taken                       -EBADMSG    the segment is corrupt
 *     -EINVAL      an argument, or options that contradict   -EPROTO     the segment has another layout version
 *     -ENOTSUP     this transport cannot do that             -EDEADLK    second call at once in one SPSC role
 *     -ENOTCONN    no server of a nats: channel answers, for now
 *     -EIO         a peer has truncated the segment (options.guard): for good
 *     -EOWNERDEAD  a rendezvous: the receiver died while it took the message; or the peers took this handle for dead
 *
 * noria_detail() says in one sentence what failed last in this thread and what to do about it.
 *
 * Timeouts are nanoseconds: 0 tries once and never sleeps, -1 waits for ever. They count on CLOCK_MONOTONIC.
 * Interrupted waits (EINTR) go on, unless options.returns_eintr. Sizes are bytes. Length 0 is a message.
 *
 * Threads: any number may share a handle, except that a channel of kind SPSC or BROADCAST has one caller per
 * role at a time (-EDEADLK otherwise), and noria_close must be the last call on a handle to begin: shut down,
 * join your threads, close. For capacity and max_held a thread that shares a handle counts like a handle of
 * its own. Processes: each opens its own handle. The library has no global state that a user can see, no
 * threads, no signal handlers, no atexit, and prints nothing. No call is promised to be a cancellation point
 * for pthread_cancel.
 *
 * Signal handlers may call noria_send and noria_recv with timeout 0, also on the handle whose call they
 * interrupted, if the channel does not wait by mutex, its pack is 1, and the thread has made a call before.
 * On an SPSC channel that is -EDEADLK if it interrupted the same role; on one that overwrites, -EAGAIN if it
 * interrupted a send. Save errno. All else is not safe there.
 *
 *     may run together    send  recv  shutdown  close          send: send, reserve, commit, abort, and their forms
 *     send                MPMC  yes   yes       until it began  recv: recv, peek, release, and their forms
 *     recv                yes   MPMC  yes       until it began  shutdown and close make blocked calls return
 */
#ifndef NORIA_H
#define NORIA_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(NORIA_BUILD)
#define NORIA_API __attribute__((visibility("default")))
#else
#define NORIA_API
#endif

typedef struct noria_channel noria_channel;

/* Flags of noria_open. Neither SEND nor RECV: an observer, who sees statistics and takes no part. */
enum {
    NORIA_SEND = 1,
    NORIA_RECV = 2,
    NORIA_CREATE = 4, /* make the channel if the name is free; otherwise attach, and its geometry wins */
    NORIA_EXCL = 8    /* with CREATE: -EEXIST if the name is taken */
};

/* SPSC, MPMC: a queue, each message goes to one receiver. MPMC with capacity 0 is a rendezvous, with
 * max_bytes it grows. BROADCAST: one sender, every receiver gets every message. */
enum noria_kind { NORIA_KIND_SPSC = 1, NORIA_KIND_MPMC = 2, NORIA_KIND_BROADCAST = 3 };
enum noria_order { NORIA_ORDER_STRICT = 0, NORIA_ORDER_PRODUCER = 1 /* not yet: -ENOTSUP */ };
/* What a send does on a full channel. Every message dropped is counted in stat, and the receiver is told, once: what one was
 * told before it died is not told again.
 *
 * On a BROADCAST channel `full` says what the sender does about the slowest receiver. BLOCK, FAIL,
 * DROP_NEWEST: it stays behind it; a receiver that is stopped holds it, in bounded calls; with evict_ns it is
 * left behind after that time. OVERWRITE_OLDEST: it waits for nobody, and receivers map the ring read-only
 * (a handle for both roles maps it writable; of the rest of the segment every participant writes its own words).
 * Each receiver is told in noria_info exactly how many messages it missed; info.sequence is dense. Messages
 * stay for receivers that come later, up to the channel's size (OVERWRITE_OLDEST: at least `capacity` of
 * them). With evict_ns or OVERWRITE_OLDEST peek is -ENOTSUP, max_held 1, and a receive that fails may have
 * written into the buffer. One sender at a time, one caller per role of a handle. */
enum noria_full {
    NORIA_FULL_BLOCK = 0,           /* waits, up to its timeout */
    NORIA_FULL_FAIL = 1,            /* -EAGAIN whatever its timeout */
    NORIA_FULL_DROP_NEWEST = 2,     /* drops its own message, or batch, and succeeds; a reservation is -EAGAIN */
    /* Makes room: the oldest message goes, while the channel is full; what a receiver holds stays. Never waits for
     * receivers; -EAGAIN only if all that is there is held or half done, or while another thread of the handle
     * makes room. MPMC, with pack and priorities 1.
     *
     * With capacity 1, MPMC or BROADCAST: the latest value. Every receiver gets the newest message, once, and
     * a newcomer what is current; noria_info.lost is how many this handle missed, stat.lost how many were
     * overwritten before anybody could see them. No reserve and peek (-ENOTSUP). A receive that is overtaken
     * 64 times while it copies has changed the buffer when it tries again. Sequences start again after 2^47
     * messages. */
    NORIA_FULL_OVERWRITE_OLDEST = 3
};
/* Where a receiver of a BROADCAST channel begins. */
enum noria_start { NORIA_START_NOW = 0, NORIA_START_OLDEST = 1, NORIA_START_POSITION = 2 };
/* How a channel's participants wait for each other, chosen by its creator. All but the last two spin as long
 * as that has paid lately, then sleep; docs/DESIGN.md compares them. */
enum noria_wait {
    NORIA_WAIT_FUTEX = 0,          /* the default: fastest, nothing to clean up */
    NORIA_WAIT_MUTEX = 1,          /* robust process-shared mutex and condition variable; trust SAME_USER only */
    NORIA_WAIT_SEMAPHORE = 2,      /* named POSIX semaphores; trust SAME_USER only */
    NORIA_WAIT_SYSV_SEMAPHORE = 3, /* a System V semaphore set */
    NORIA_WAIT_EVENTFD = 4,        /* for poll; processes of one user; trust SAME_USER only */
    NORIA_WAIT_FIFO = 5,           /* for poll; a FIFO beside the segment */
    NORIA_WAIT_SPIN = 6,           /* never sleeps: for a processor of one's own */
    NORIA_WAIT_YIELD = 7           /* never sleeps, lets others run between tries */
};
enum noria_orphans { NORIA_ORPHANS_REDELIVER = 0, NORIA_ORPHANS_DROP = 1 };
/* Whom the memory is shared with. Either way nothing that is read from it is trusted: no index, length or pointer. What
 * differs is what a peer could do beyond bytes. NONE: ways to wait with objects that crash who uses them when they are
 * tampered with (MUTEX, SEMAPHORE), or that a peer can make mean others of ours (EVENTFD), are -ENOTSUP; so are noria_fd of
 * a channel without a name, which would give an eventfd, and noria_notify_signal, for whoever writes in the segment could
 * name any process and signal; so is a segment that a peer can truncate, unless options.guard is set (memfd: and anon: are
 * sealed); and once a call has met what cannot be, every later call on the handle is -EBADMSG. An opener who asks for NONE
 * has it for his handle, whatever the channel was created with, and neither rings the eventfds nor sends the signals that
 * others there wait for; where the creator asked for it, all have it, as long as no peer has changed what the channel says:
 * who needs it asks for it. */
enum noria_trust { NORIA_TRUST_SAME_USER = 0, NORIA_TRUST_NONE = 1 };
/* A channel in a file survives the end of every process, and a reboot, without any of these. They are for the power
 * loss: what was there at the last one that returned is on the disk. */
enum noria_sync_when { NORIA_SYNC_NEVER = 0 /* but for calls of noria_sync */, NORIA_SYNC_CLOSE = 1 /* at noria_close, too */ };
/* When a name goes by itself. A process that is killed removes nothing: then the last handle to close does, in both. */
enum noria_lifetime {
    NORIA_PERSIST = 0,
    NORIA_UNLINK_LAST = 1,   /* the last handle to close removes it */
    NORIA_UNLINK_CREATOR = 2 /* the handle that made the channel does when it is closed; the others go on without */
};

/* What a handle would like its mapping to be. None of it fails an open; noria_stat.granted says what there is. */
enum noria_wish {
    /* In System V memory whose creator wishes for them reserved ones (SHM_HUGETLB), if the pool has enough: see
     * vm.nr_hugepages; not for lossy broadcast, whose receivers map it read-only. Elsewhere transparent ones; see
     * /sys/kernel/mm/transparent_hugepage/shmem_enabled. */
    NORIA_WISH_HUGE_PAGES = 1,
    NORIA_WISH_POPULATED = 2,  /* page tables filled at open, so that no send is the first to touch a page (Linux 5.14) */
    NORIA_WISH_LOCKED = 4,     /* mlock: never paged out; see ulimit -l */
    NORIA_WISH_NODE = 8        /* memory of options.node, as far as it has some */
};

/* What a channel is created with. Initialise with noria_options_init, then change what matters. An attacher's
 * options are ignored where the channel's own say otherwise, except kind, order, trust and a max_message
 * larger than the channel's: those are -EINVAL if NORIA_CREATE is asked for. recheck_ns, wait_create_ns,
 * open_timeout_ns, need_receiver, foreign, returns_eintr, most_spins, start, start_position, sync, guard, memory,
 * memory_size, wishes, node, sigpipe_ignored and reader_copies are the handle's own.
 *
 * guard installs a handler for SIGBUS with the first such handle of the process, which passes on what is not its own, and
 * takes it back with the last one. A thread that blocks SIGBUS is not guarded; a handler that is installed later has to call
 * the one it replaces. What is written into a reserved span of a truncated segment is lost, and commit is -EIO. */
struct noria_options {
    uint32_t size; /* of this struct, so that it may grow */
    uint32_t kind;             /* MPMC */
    uint32_t order;            /* strict */
    uint32_t pack;             /* 1: MPMC records that send_many may put into one slot */
    uint64_t capacity;         /* 1024: messages of max_message bytes that fit for certain, at least 1 */
    uint64_t first_position;   /* 0: where positions start; for tests of wrap-around */
    uint32_t max_message;      /* 256: bytes */
    uint32_t max_held;         /* 1: messages a handle may hold peeked and unreleased; more is -EBUSY */
    uint32_t max_participants; /* 64: handles open at a time */
    uint32_t full;             /* BLOCK */
    uint32_t wait;             /* FUTEX */
    uint32_t orphans;          /* REDELIVER what a dead receiver held; DROP: count it as lost */
    uint32_t lifetime;         /* PERSIST */
    uint32_t mode;             /* 0600: permissions of the name, whatever the umask */
    uint32_t trust;            /* SAME_USER */
    uint32_t need_receiver;    /* 0; 1: send gives -EPIPE once receivers were there and all are gone */
    uint32_t foreign;          /* 0; 1: attach also to a channel that another user, not root, has made (root too) */
    uint32_t returns_eintr;    /* 0; 1: a sleep that a signal handler interrupted ends the call with -EINTR (not by mutex) */
    int64_t recheck_ns;        /* 25 ms: how long a sleeper sleeps before it looks for itself */
    int64_t wait_create_ns;    /* 0: without CREATE, wait so long for the name to appear */
    int64_t open_timeout_ns;   /* 1 s: wait so long for another process that is just creating the channel */
    uint32_t most_spins;       /* 1000: tries before a call sleeps, at most; fewer if they did not pay lately; 0 none */
    uint32_t priorities;       /* 1: levels of noria_send_prio, up to 32 */
    uint64_t max_bytes;        /* 0: bounded; else it grows from `capacity`, its segment up to so many bytes */
    int64_t evict_ns;          /* 0: never; a BROADCAST receiver that has held up the sender for so long is left behind */
    uint64_t start_position;   /* with START_POSITION: the sequence to begin with, or the oldest kept after it */
    uint32_t start;            /* NOW; for receivers of a BROADCAST channel */
    uint32_t sync;             /* NEVER; when the disk is waited for, if the channel is a file: enum noria_sync_when */
    uint32_t guard;            /* 0; 1: a peer that truncates the segment makes calls -EIO instead of ending this process */
    uint32_t wishes;           /* 0; what would be nice: enum noria_wish */
    void *memory;              /* NULL; for memory: where it is, aligned to 4096 bytes */
    uint64_t memory_size;      /* 0; and how much; -ENOSPC tells how much is needed */
    int32_t node;              /* 0; the NUMA node of NORIA_WISH_NODE */
    uint32_t checksum;         /* 0; 1: each message has a checksum, see noria_sync. Of rings SPSC, and MPMC with pack 1 */
    uint32_t group;            /* UINT32_MAX: the creator's; else whose group the name, locks and bells of a new channel in
                                  shm:, sysv: or file: are. -EPERM: not one of the creator's; without shared memory -ENOTSUP */
    uint32_t sigpipe_ignored;  /* 0; 1: the program ignores SIGPIPE for as long as the handle is open, so that writing into a
                                  pipe need not guard against it (0.1 us less a message). -EINVAL: it does not ignore it now */
    uint32_t reader_copies;    /* 0; 1: whoever reads the pipe or FIFO reads (read, readv) and does not pass pages on (splice, tee),
                                  so that noria_send_many may lend it pages instead of copying them */
};

enum { NORIA_REDELIVERED = 1, NORIA_LOST = 2, NORIA_FDS = 4 }; /* noria_info.flags */

struct noria_info {
    uint32_t size;     /* of the message */
    uint32_t flags;    /* REDELIVERED: a receiver died holding it, so it may have been seen before. FDS: it brought descriptors */
    uint32_t priority; /* as it was sent with */
    uint32_t sender;   /* participant number of the sender's handle; SPSC: of whoever is the sender now */
    uint64_t sequence; /* grows within a channel, not always by one; the same when delivered again */
    uint64_t lost;     /* with LOST: messages dropped (BROADCAST: and missed by this receiver) since the last receive that said so */
};

/* A piece of the channel's own memory. Valid until commit, abort or release. */
struct noria_span {
    void *data;
    size_t len;
    uint64_t token[2];
};

enum { /* noria_stat.abilities: what the transport can do */
    NORIA_CAN_PRIORITY = 1,
    NORIA_CAN_MANY_SENDERS = 2,
    NORIA_CAN_MANY_RECEIVERS = 4,
    NORIA_CAN_REDELIVER = 8,
    NORIA_CAN_POLL = 16,
    NORIA_CAN_OUTLIVE = 32,  /* messages survive the exit of every process */
    NORIA_CAN_ZERO_COPY = 64,
    NORIA_CAN_BOUNDARIES = 128, /* a message is received as it was sent, never cut nor joined: they all can */
    NORIA_CAN_FDS = 256         /* noria_send_fds */
};

struct noria_stat {
    uint32_t size; /* set by the caller to sizeof(struct noria_stat), or 0 for all of it */
    uint32_t kind, order, pack, full, wait, orphans, lifetime, trust, mode;
    uint32_t abilities;
    uint32_t max_message, max_held, max_participants;
    uint32_t senders, receivers, observers; /* handles attached and alive */
    uint32_t self;                          /* this handle's participant number */
    uint64_t capacity;                      /* messages */
    int64_t messages;                       /* committed and not taken; -1: not known exactly */
    int64_t bytes;                          /* their bytes; -1: not known exactly */
    uint64_t held;                          /* taken and not released */
    uint64_t footprint;                     /* bytes of the segment; of one that grows, those it has just now */
    uint64_t sent, received;                /* by all handles there ever were */
    uint64_t redelivered;                   /* messages given to another receiver after a death */
    uint64_t lost;                          /* messages dropped, by policy, after a death */
    uint64_t deaths;                        /* participants found dead and cleaned up */
    int64_t created_ns;                     /* CLOCK_REALTIME */
    uint64_t max_bytes;                     /* as in the options, like the next two */
    int64_t evict_ns;
    uint32_t priorities;
    uint32_t granted;                       /* of options.wishes, to this handle */
    uint32_t checksum;                      /* as in the options */
    uint32_t nameless;                      /* 1: the name was removed, nobody can open it any more; it goes with its users */
    uint64_t torn;                          /* of `lost`: messages whose checksum did not hold */
    const char *carrier;                    /* opened by auto: the address of what carries it; else NULL. Until it is closed, */
    const char *refused;                    /* like this: a line for each that was tried before, with its reason */
    uint64_t strangers;                     /* without shared memory, by this handle: connections refused or dropped, */
    uint64_t skipped;                       /* and bytes that were no messages; */
    uint64_t dropped_fds;                   /* descriptors that came and that nobody took */
};

/* Fills in the defaults named above. */
NORIA_API void noria_options_init(struct noria_options *options);

/* The bytes of the segment that a channel with these options takes; nothing is made. -EINVAL, -ENOTSUP as
 * noria_open. Of a channel that grows: what it takes at first. */
NORIA_API int64_t noria_footprint(const struct noria_options *options);

/* Opens a channel. NULL options are the defaults.
 *
 *     shm:/name           POSIX shared memory                  file:/path          a file on disk: outlives a reboot
 *     sysv:KEY            System V shared memory, KEY decimal  sysv:/path:PROJ     its key made by ftok of a file and a
 *                         or 0x...                                                 number (1 to 255) or letter
 *     sysv:id:N           the one that has this id (attach)    sysv:               without a key: like anon:
 *     memory:             options.memory: memory you own, zero at first, which all who share the channel have mapped; within
 *                         one pid namespace. It stays yours: keep it mapped until the last handle there is closed. A MAP_SHARED
 *                         mapping is shared with children; threads of one process each open it or share a handle
 *     memfd:FD            the memory behind a descriptor,      anon:               memory without a name, for a process
 *                         which is duplicated                                      and its children (noria_reopen)
 *
 * Or, where there is no shared memory to be had: "pipe:" a new pipe for a process and its children, "pipe:R,W" one
 * that is there, "fd:N" any descriptor, "fifo:/path", "unix:/path" (with ?seqpacket: packets), "tcp:host:port"
 * ("tcp::port": this machine), "mq:/name" a POSIX and "svmq:KEY" a System V message queue. These deliver at most once:
 * what a receiver had read when it died is lost, and the next one is told how many (info.lost); each carries messages
 * up to max_message and a mebibyte at least (queues: what fits into one of the queue's), keeps boundaries and order per
 * sender, and has one receiver (queues: several, if messages fit into one of the queue's; a second one is -EBUSY).
 * fd: of a stream socket is for one sender: of two at a time messages are damaged, which is noticed, and lost.
 * "unix:/path?deal" (with &seqpacket) and "tcp:host:port?deal", on both sides: the sender listens, a second one is
 * -EBUSY, and many receivers connect, up to max_participants. Each message, or batch, goes to one of them, in turn
 * among those that have room; the channel is full when none has. Who is stopped holds up nobody: a message of which he
 * has a part goes to another one after some milliseconds, or, if its end was begun, counts as sent. When a receiver
 * goes that had been given something the sender gets -EPIPE once, also if others are there; for a receiver the stream
 * ends with the sender.
 * "auto:/name" is the first of shm, memfd, unix, fifo and mq that works here, or of those that "?order=fifo,mq" or the
 * variable NORIA_TRANSPORT name. Who opens the name first chooses and writes it down, under a lock, in $NORIA_DIR, else
 * $XDG_RUNTIME_DIR/noria, else /tmp/noria-UID; who comes while others have it open takes the same or fails, with the
 * reasons of both sides. When all have left the next one chooses anew, unless messages wait in the shm:/name or mq:/name
 * of before. noria_stat says what was taken, and why not what was tried before.
 *
 * A sender without a receiver waits for it; when its receiver goes it gets -EPIPE once. A send returns when all of the
 * message has left the process, with one exception: with timeout 0, or at its deadline, a message of which a socket has
 * taken a part counts as sent, and the rest goes with the next call of that side (a send, noria_wait_any) or
 * noria_close: nobody but its caller works for a handle. Who has nothing more to send calls noria_flush or closes. What
 * they cannot do is -ENOTSUP; noria_stat says what they can.
 *
 * Between machines "nats://[user:password@]host[:port][,host...]/subject[?option&...]", a stream of NATS' JetStream: messages are
 * kept by the servers, and delivered at least once, flagged when they come again. Senders and receivers are many; nobody
 * knows when the last sender has left, so there is no end of the stream. A send returns when the servers have the message;
 * one whose answer has not come at its deadline is -ETIMEDOUT and may have been stored: the same bytes sent next are the
 * same message. With timeout 0 a message that is on its way counts as sent, and the next call or noria_close sees to it;
 * a receive with timeout 0 asks for a message, and a later one finds it. -ENOTCONN: the server is away; the handle goes on
 * when it is back. noria(7) has the options. A message longer than the server takes is -EMSGSIZE at open or send.
 *
 * Bounded by open_timeout_ns and wait_create_ns. -ENOENT, -EEXIST, -EINVAL, -EACCES, -ENOSPC,
 * -ECONNREFUSED, -EHOSTUNREACH, -EPROTO, -EBUSY (an SPSC role has a live owner, or the table of participants is full), -ETIMEDOUT (its
 * creator is stopped), -EBADMSG, -ENOTSUP, -EMFILE, -ENOMEM, -EFBIG, -ELOOP, -ENAMETOOLONG, -EAGAIN (the name
 * vanishes again and again), -EPERM (a group that is not one's own, seals that cannot be had), -ENFILE, -ENOLCK (no locks are to
 * be had), -ENOSYS (a call that the kernel, or a filter of calls, does not know), -EINTR (a file system that can be
 * interrupted while it opens: FUSE), -EROFS, -EIO and the like of a disk. So it is with all that opens or lists. If only this handle could not be had, for instance a descriptor to wait at, a
 * channel that was just created stays, and the next open finds it. */
NORIA_API int noria_open(noria_channel **channel, const char *address, int flags, const struct noria_options *options);

/* Copies a message in. Blocks while the channel is full, up to the timeout.
 *
 * Rendezvous (capacity 0): returns 0 when a receiver has the message; -EOWNERDEAD if that one died while it
 * took it, -ETIMEDOUT and the like if nobody has it or will. A receiver that is stopped while it takes the
 * message holds up its sender until the timeout. With timeout 0 (or full FAIL, DROP_NEWEST) the message is
 * offered only if a receiver is known to wait, in a call with a timeout or at a descriptor, and for at most
 * 0.2 ms. noria_send_many sends one; zero copy is -ENOTSUP. A receiver's buffer may have been written to
 * although its call failed: the sender gave up just then.
 *
 * Growing (max_bytes): below the ceiling a send never waits, but one that finds the newest link full makes
 * the next one, twice as large, which takes time by its size. At the ceiling, and where the file system has
 * no memory left, the channel is full. Memory goes back while receivers look for messages and find none.
 * Where a process stays in an old link, -EAGAIN of a receive means that each link was empty, one after the
 * other. Zero copy is -ENOTSUP. */
NORIA_API int noria_send(noria_channel *channel, const void *data, size_t len, int64_t timeout_ns);
/* The highest of options.priorities levels goes first, 0 is the lowest; noria_send, send_many and reserve
 * send at 0. Within a level first in, first out. A receive that starts when a send has returned gives nothing
 * lower while that message is there. Low levels starve as long as higher ones have messages. Each level has
 * the whole capacity; a full one refuses or blocks for itself. MPMC, with pack 1. -EINVAL: no such level;
 * -ENOTSUP: the channel has no priorities. */
NORIA_API int noria_send_prio(noria_channel *channel, const void *data, size_t len, unsigned priority,
                              int64_t timeout_ns);
/* Copies a message out and returns its length. `info` may be NULL. -EMSGSIZE: the message is longer than
 * `capacity` and stays first; noria_detail names its length.
 *
 * -EPIPE, the end of the stream: this handle has seen a sender or a message, no sender is left, and nothing
 * is there, nor held by another receiver that might die with it. At once, whatever the timeout, and again
 * with every call until a sender comes: who wants to wait for the next one closes the handle and opens
 * another, which has seen nothing yet and waits. */
NORIA_API ssize_t noria_recv(noria_channel *channel, void *buffer, size_t capacity, int64_t timeout_ns,
                             struct noria_info *info);
/* Up to `n` messages in order; waits for the first one only, and over a stream, which may take a part of a message, for
 * the rest of the last one that it counts (without time for that the rest goes first with the next call, or with
 * noria_flush or noria_close). Returns how many; the error that stopped it comes with the next call. recv_many sets each
 * iov_len; `info`, if not NULL, has n entries. */
NORIA_API int noria_send_many(noria_channel *channel, const struct iovec *messages, int n, int64_t timeout_ns);
NORIA_API int noria_recv_many(noria_channel *channel, struct iovec *buffers, int n, int64_t timeout_ns,
                              struct noria_info *info);

/* As noria_send_prio, but where each send is a system call (pipes, FIFOs, sockets, POSIX and System V queues) the
 * message may stay in the handle until as many have come as go out in one; noria_flush puts out what is there. So does
 * every other send or commit, before its own message, noria_wait_any, and noria_close, for at most a second. What is in
 * the handle when the process dies is lost with it: 0 says that the message was taken (stat.sent counts it), and the
 * flush that it is sent. Waits only while what was gathered before does not go out. Of a queue's several receivers one
 * gets what goes out together. Elsewhere (segments, nats:, ?deal) it is noria_send_prio. */
NORIA_API int noria_gather(noria_channel *channel, const void *data, size_t len, unsigned priority, int64_t timeout_ns);
/* Puts out what calls before it have left in the handle: gathered messages, and the rest of one of which a socket had
 * taken a part, or whose answer from a server was outstanding. 0: nothing is left. Waits up to the timeout, whatever
 * the policy for full channels. -EAGAIN, -ETIMEDOUT: something is left, and goes with the next call. -EPIPE: the
 * receiver has gone, and what was left is lost (stat.lost counts the gathered messages); told once, to the next call of
 * the handle that sends. In a segment nothing is ever left: 0. */
NORIA_API int noria_flush(noria_channel *channel, int64_t timeout_ns);
/* A message that brings descriptors, 1 to NORIA_MOST_FDS of them, over "unix:/path", a stream or packets, not ?deal,
 * and "fd:N" of a Unix socket; elsewhere, and through every ring, -ENOTSUP (noria_stat: NORIA_CAN_FDS). As noria_send;
 * the receiver gets duplicates, the sender keeps his, and may close them when the call has returned. The message goes
 * in one frame: up to 65,500 bytes, in packets 32,732; more is -EMSGSIZE. It stands in order among all others. -EBADF:
 * one of them is not open. -EMFILE, -ENFILE. -ETOOMANYREFS: as many are under way as the user may have open
 * (ulimit -n). */
enum { NORIA_MOST_FDS = 16 };
NORIA_API int noria_send_fds(noria_channel *channel, const void *data, size_t len, const int *fds, int n,
                             int64_t timeout_ns);
/* As noria_recv, of any message. *n: room in `fds`, and then how many there are, 0 of a message without; they are the
 * caller's, closed on exec. -EMFILE in *n: there were some, and this process could open no more files, so the kernel
 * has closed them; the call succeeds. -EMSGSIZE: there is too little room, for bytes or descriptors; the message stays
 * first. Whoever receives such a message otherwise (noria_recv, recv_many, release of a peeked one, noria_bridge)
 * closes what it brought; info.flags and noria_stat.dropped_fds tell of it. noria_close closes what was not received. */
NORIA_API ssize_t noria_recv_fds(noria_channel *channel, void *buffer, size_t capacity, int *fds, int *n,
                                 int64_t timeout_ns, struct noria_info *info);

/* Zero copy. reserve: room for up to max_len bytes, one reservation per thread and 64 per handle at a time
 * (SPSC: one); commit sends its first `len` bytes, abort gives it up, both in the thread that reserved. peek:
 * the next message in place, up to max_held at a time; release gives it back, on SPSC channels and with pack
 * > 1 in order. On MPMC channels its place in the capacity is free, and senders are told, as soon as it is peeked; on SPSC
 * channels when it is released. A send with a reservation out, and on SPSC channels and with pack > 1 a recv with a peeked
 * message out, is -EBUSY. */
NORIA_API int noria_reserve(noria_channel *channel, size_t max_len, struct noria_span *span, int64_t timeout_ns);
NORIA_API int noria_commit(noria_channel *channel, struct noria_span *span, size_t len, int64_t timeout_ns);
NORIA_API int noria_abort(noria_channel *channel, struct noria_span *span);
NORIA_API int noria_peek(noria_channel *channel, struct noria_span *span, int64_t timeout_ns,
                         struct noria_info *info);
NORIA_API int noria_release(noria_channel *channel, struct noria_span *span);

/* A descriptor for poll, epoll and the like, for the side NORIA_RECV or NORIA_SEND; always the same one, the
 * handle's.
 *
 *     try until -EAGAIN    arms it: a message (or room) from before is found by the try, one from after makes it readable
 *     wait                 for POLLIN, on the sending side too; level- or edge-triggered
 *     try again            others may have been faster: then the try has armed it again
 *
 * Readable means "try", not more: never read, write or close it. Wait with a timeout (100 ms, say) and try
 * after that, too: a sender killed or stopped between its message and its ring has told nobody, and a receiver
 * killed or stopped in a try that finds nothing may have taken a ring with it that was for all; the others then
 * hear nothing until one of them tries again, so for at most that timeout. Who finds nothing takes the ring back
 * for all who wait: nothing is lost by it, but they are not served in turn, and one may be too late time and
 * again while others are not. At the end of the stream (-EPIPE) and after noria_shutdown it becomes readable,
 * and may stay so: take it out of your loop, as that of a pipe without writers. Before noria_close take it out
 * of an epoll set: other processes have the same file open, so closing alone does not. -EINVAL, -EMFILE,
 * -ENFILE, -EACCES, -EPERM (the channel has no name, and the other processes may not be traced), -EBUSY
 * (another thread is just asking), -ENOTSUP (also with trust NONE and no name), -ECANCELED, -ESTALE. */
NORIA_API int noria_fd(noria_channel *channel, int side);

/* One of the places noria_wait_any waits at. */
struct noria_ready {
    noria_channel *channel;
    int side;  /* NORIA_RECV or NORIA_SEND */
    int ready; /* set: 1 try now (the call will do something, or say what is wrong), 0 nothing yet */
    unsigned priority; /* NORIA_SEND: of the message that waits for room; 0 is that of noria_send */
};

/* Waits until at least one of `n` sides can get on, or the timeout has passed, and sets `ready` of each. How
 * many are ready, 0 on timeout, or -errno as noria_fd, which it uses. Ready means that a try is worth while:
 * others may be faster, and at the end of the stream the try says so. -EINVAL also for a priority that the channel
 * has no level for. With returns_eintr in the first handle,
 * -EINTR. */
NORIA_API int noria_wait_any(struct noria_ready *waits, int n, int64_t timeout_ns);

enum noria_notify { NORIA_NOTIFY_ONCE = 0, NORIA_NOTIFY_ALWAYS = 1 };

/* A signal for this process when a message comes, with the handle as its value (si_value.sival_ptr,
 * si_code SI_QUEUE), as mq_notify gives it. Armed by a receive that found the channel empty, and at once
 * if it is empty now: so register, then receive until -EAGAIN; on each signal receive until -EAGAIN again,
 * in the handler or elsewhere. One arming gives one signal; that somebody joins, leaves or dies may give
 * one, too. ONCE: one signal (two, if a sender dies over it), then the registration is gone, as it is when
 * the handle is shut down or closed, or the process becomes another program (execve). signo 0 cancels; a
 * signal that was under way may still come. One registration per handle; real-time signals queue. A sender
 * needs the right to signal this process (kill(2)); one that cannot, for want of that or of a descriptor,
 * leaves it to the next one. One that is killed or stopped after it took the registration and before it
 * sent makes the signal late, until it goes on or somebody notices its death: have a timer beside it, and
 * receive until -EAGAIN then, which arms an ALWAYS registration again. The value comes through the
 * segment: compare it with your handles before you use it. -EINVAL, -ENOTSUP (also with trust NONE), -ECANCELED,
 * -ESTALE. */
NORIA_API int noria_notify_signal(noria_channel *channel, int signo, int how);

/* Waits until the disk has all that was committed before: after a batch of sends, say. Only for channels in a file. A
 * power loss between two such calls can leave anything of what changed since the first: messages lost, again, or torn; the
 * channel itself then works, or says -EBADMSG. With options.checksum a message that is torn, or damaged in any
 * other way, is not received: it is passed over and counted in stat.torn and stat.lost, and the next message's
 * noria_info tells of it. SPSC: while a message is held, a peek at a torn one is -EBUSY. Costs 8 bytes and a CRC32C
 * per message. -ENOTSUP, -EIO, -ECANCELED, -ESTALE. */
NORIA_API int noria_sync(noria_channel *channel);

/* A snapshot. Does not disturb traffic and makes no system call but those that ask whether peers live, and whether the
 * channel has its name. */
NORIA_API int noria_stat(noria_channel *channel, struct noria_stat *stat);

/* Makes every present and later call on the handle return -ECANCELED. Any thread, any number of times. Wakes
 * calls that wait until they have left, for a second at most. */
NORIA_API int noria_shutdown(noria_channel *channel);
/* Shuts down, waits until calls in progress have left, leaves the channel and frees the handle. What the
 * handle held unreleased goes to other receivers. A call begun after close returned is a use after free. */
NORIA_API int noria_close(noria_channel *channel);
/* In a child after fork: makes the child a participant of its own on the channel that `inherited` is open on,
 * with the options of that handle (a receiver of a BROADCAST channel begins where its `start` says, as of
 * now). The inherited handle stays stale; noria_close frees it. */
NORIA_API int noria_reopen(noria_channel **mine, const noria_channel *inherited, int flags);
/* Hands a channel without a name (anon:, memfd:) over a connected Unix socket to another process, which need not be a child,
 * and takes it there, as noria_open would. Each asks the kernel who is at the other end: share refuses (-EACCES) a process of
 * another user, not root, unless options.mode of the channel is open to all; accept refuses one unless options.foreign. Accept
 * waits up to options.open_timeout_ns. -ENOTSUP the channel has a name, -EINVAL no Unix socket, -ETIMEDOUT, -EPIPE, -EBADMSG
 * something else came. */
NORIA_API int noria_share(noria_channel *channel, int socket);
NORIA_API int noria_accept(noria_channel **channel, int socket, int flags, const struct noria_options *options);

/* Removes the name. Handles that are open go on; a new open makes a new channel. -ENOENT, -EINVAL not a
 * channel. */
NORIA_API int noria_unlink(const char *address);

struct noria_bridge_counts {
    uint64_t messages, bytes; /* that the destination has accepted */
    uint64_t redelivered;     /* of those, marked so by the source */
    uint64_t lost;            /* that the source said were missing */
    uint64_t refused;         /* sends after which the destination had lost its receiver, and that were made again */
    uint64_t without_fds;     /* messages that brought descriptors, which were closed: a bridge passes none on */
    void *kept;               /* at the end: a message that has left the source and that the destination did not take, */
    struct noria_info kept_info; /* with its size and priority; send it elsewhere, and free it. NULL: there is none */
};

/* Receives from one channel and sends to the other, in order, with boundaries and, where the destination has them,
 * priorities, until the stream of the source ends: 0. Otherwise -errno: a message too long for the destination
 * (-EMSGSIZE), a destination that can have no receiver any more (-ENOTCONN), either handle shut down (-ECANCELED).
 * `counts` (may be NULL) is kept up to date. Where the source can redeliver (stat.abilities) a message is released
 * after the destination has accepted it: at least once, also when the bridge is killed. Elsewhere at most once. A
 * message that the destination does not take stays the source's next one, or comes again when the source's handle is
 * closed; of a source that lends none (noria_peek is -ENOTSUP) it is handed over in `counts`, unless it is too long for
 * the destination: then it stays. Without `counts` it is lost. */
NORIA_API int noria_bridge(noria_channel *from, noria_channel *to, struct noria_bridge_counts *counts);

/* A sentence for an error code of this library. */
NORIA_API const char *noria_strerror(int error);
/* This thread's last failure: what failed and what to do. Valid until the thread's next failing call. */
NORIA_API const char *noria_detail(void);

#ifdef __cplusplus
}
#endif

#endif
