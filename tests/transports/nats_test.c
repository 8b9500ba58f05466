/* SPDX-License-Identifier: BSD-2-Clause */
/* What is particular to NATS: addresses, servers that are away or refuse, streams and their limits, redelivery. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <noria/noria.h>

#include "fails_test.h"
#include "nats_operator.h"
#include "nats_server.h"

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
#define A_WHILE (20 * SECOND)

#define assert_says(words) \
    do { \
        if (strstr(noria_detail(), words) == NULL) \
            fail_msg("says: %s", noria_detail()); \
    } while (0)

static struct noria_options options;

static int setup(void **state)
{
    (void)state;
    noria_options_init(&options);
    options.open_timeout_ns = A_WHILE;
    return 0;
}

static int open_at(noria_channel **channel, const char *subject, int flags)
{
    return noria_open(channel, nats_address(subject), flags, &options);
}

static noria_channel *must_open(const char *subject, int flags)
{
    noria_channel *channel = NULL;
    int rc = open_at(&channel, subject, flags);

    if (rc != 0)
        print_message("%s: %d, %s\n", subject, rc, noria_detail());
    assert_int_equal(rc, 0);
    return channel;
}

static void remove_stream(const char *subject)
{
    assert_int_equal(noria_unlink(nats_address(subject)), 0);
}

/* --------------------------------------------------------------------------------------------------------- addresses */

static void wrong_addresses(void **state)
{
    /* Claim: what is no address is -EINVAL with a sentence, before anybody is asked. */
    static const char *const wrong[] = {"nats:",
                                        "nats:host/subject",
                                        "nats://",
                                        "nats:///orders",
                                        "nats://host",
                                        "nats://host/",
                                        "nats://host:port/orders",
                                        "nats://host:70000/orders",
                                        "nats://host:0/orders",
                                        "nats://h1,,:4222/orders",
                                        "nats://host/or ders",
                                        "nats://host/orders.*",
                                        "nats://host/orders.>",
                                        "nats://host/.orders",
                                        "nats://host/orders.",
                                        "nats://host/or..ders",
                                        "nats://host/$JS.API.INFO",
                                        "nats://host/orders?nonsense",
                                        "nats://host/orders?nonsense=1",
                                        "nats://host/orders?replicas=0",
                                        "nats://host/orders?replicas=9",
                                        "nats://host/orders?ack_wait=soon",
                                        "nats://host/orders?stream=a.b",
                                        "nats://host/orders?consumer=",
                                        "nats://host/orders?creds=",
                                        "nats://host/orders?cert=/tmp/x",
                                        "nats://host/orders?ca=%zz",
                                        "nats://:secret@host/orders",
                                        "nats://us%er@host/orders"};
    noria_channel *channel = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int rc = noria_open(&channel, wrong[i], NORIA_SEND | NORIA_CREATE, &options);
        if (rc != -EINVAL)
            print_message("%s: %d\n", wrong[i], rc);
        assert_int_equal(rc, -EINVAL);
        assert_true(strlen(noria_detail()) > 10);
        assert_null(strstr(noria_detail(), "secret"));
    }
}

static void nobody_there(void **state)
{
    /* Claim: where no server listens, open and unlink say so, and name the server but no password. */
    noria_channel *channel = NULL;
    char address[96];

    (void)state;
    snprintf(address, sizeof(address), "nats://me:secret@127.0.0.1:%u/orders", nats_free_port());
    assert_fails(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &options), ECONNREFUSED);
    assert_says("nats://127.0.0.1:");
    assert_null(strstr(noria_detail(), "secret"));
    assert_fails(noria_unlink(address), ECONNREFUSED);
}

/* ----------------------------------------------------------------------------------------------- streams, their limits */

static void streams_are_made_found_and_removed(void **state)
{
    /* Claim: without CREATE there is no channel (-ENOENT), with EXCL no second one (-EEXIST); noria removes what it has
     * made; a handle whose stream is removed says so. */
    noria_channel *channel = NULL, *tx, *rx;
    char buffer[8];

    (void)state;
    assert_fails(open_at(&channel, "made", NORIA_SEND), ENOENT);
    assert_fails(noria_unlink(nats_address("made")), ENOENT);
    tx = must_open("made", NORIA_SEND | NORIA_CREATE | NORIA_EXCL);
    assert_fails(open_at(&channel, "made", NORIA_SEND | NORIA_CREATE | NORIA_EXCL), EEXIST);
    assert_fails(open_at(&channel, "made?stream=other", NORIA_SEND | NORIA_CREATE), EEXIST);
    assert_says("another stream has that subject");
    rx = must_open("made", NORIA_RECV);
    assert_int_equal(noria_send(tx, "x", 1, A_WHILE), 0);
    remove_stream("made");
    assert_fails(noria_send(tx, "y", 1, A_WHILE), ENOENT);
    assert_fails(noria_recv(rx, buffer, sizeof(buffer), 0, NULL) == -EAGAIN
                     ? noria_recv(rx, buffer, sizeof(buffer), A_WHILE, NULL)
                     : -ENOENT,
                 ENOENT);
    noria_close(tx);
    noria_close(rx);
}

enum { MAKERS = 4, MADE = 60 };

static void several_make_one_at_once(void **state)
{
    /* Claim: of several that make the same channel at the same moment none is told that another stream has its subject. */
    int *begun = mmap(NULL, sizeof(*begun), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(begun != MAP_FAILED);
    for (int round = 0; round < MADE; round++) {
        pid_t makers[MAKERS];
        char name[32];
        int status;
        snprintf(name, sizeof(name), "moment-%d", round);
        __atomic_store_n(begun, 0, __ATOMIC_SEQ_CST);
        fflush(NULL);
        for (int i = 0; i < MAKERS; i++) {
            noria_channel *channel = NULL;
            makers[i] = fork();
            assert_true(makers[i] >= 0);
            if (makers[i] != 0)
                continue;
            while (__atomic_load_n(begun, __ATOMIC_SEQ_CST) == 0)
                sched_yield();
            _exit(open_at(&channel, name, (i % 2 != 0 ? NORIA_SEND : NORIA_RECV) | NORIA_CREATE) == 0 ? 0 : 1);
        }
        __atomic_store_n(begun, 1, __ATOMIC_SEQ_CST);
        for (int i = 0; i < MAKERS; i++) {
            assert_int_equal(waitpid(makers[i], &status, 0), makers[i]);
            assert_int_equal(status, 0);
        }
    }
    munmap(begun, sizeof(*begun));
}

static void limits_are_told(void **state)
{
    /* Claim: a full stream is a full channel; a message above what the server takes is -EMSGSIZE, whether it is asked for
     * at open or sent. */
    noria_channel *channel = NULL;
    struct noria_stat stat = {.size = sizeof(stat)};
    char *bytes;

    (void)state;
    options.max_message = 4 << 20;
    assert_fails(open_at(&channel, "limits", NORIA_SEND | NORIA_CREATE), EMSGSIZE);
    assert_says("max_payload");
    options.max_message = 256;
    options.capacity = 3;
    channel = must_open("limits", NORIA_SEND | NORIA_CREATE);
    assert_int_equal(noria_stat(channel, &stat), 0);
    assert_int_equal(stat.capacity, 3);
    bytes = calloc(1, stat.max_message + 1ul);
    assert_fails(noria_send(channel, bytes, stat.max_message + 1ul, 0), EMSGSIZE);
    assert_int_equal(noria_send(channel, bytes, stat.max_message, A_WHILE), 0); /* headers and all */
    free(bytes);
    for (int i = 0; i < 2; i++)
        assert_int_equal(noria_send(channel, "x", 1, A_WHILE), 0);
    assert_fails(noria_send(channel, "x", 1, 100 * MS), ETIMEDOUT);
    noria_close(channel);
    remove_stream("limits");
}

static void what_is_not_released_comes_again(void **state)
{
    /* Claim: a held message goes to another receiver when its holder leaves, at once, or lets ack_wait pass, flagged; with
     * `strict` nothing passes it; what was released does not come again. */
    noria_channel *tx = must_open("again?ack_wait=5&strict", NORIA_SEND | NORIA_CREATE);
    noria_channel *one = must_open("again?ack_wait=5&strict", NORIA_RECV), *two;
    struct noria_span span, other;
    struct noria_info first, second;
    char text[8];

    (void)state;
    assert_int_equal(noria_send(tx, "a", 1, A_WHILE), 0);
    assert_int_equal(noria_send(tx, "b", 1, A_WHILE), 0);
    assert_int_equal(noria_peek(one, &span, A_WHILE, &first), 0);
    assert_int_equal(first.flags, 0);
    assert_int_equal(noria_close(one), 0);
    two = must_open("again", NORIA_RECV);
    assert_int_equal(noria_peek(two, &other, A_WHILE, &second), 0);
    assert_int_equal(((char *)other.data)[0], 'a');
    assert_int_equal(second.flags, NORIA_REDELIVERED);
    assert_int_equal(second.sequence, first.sequence);
    one = must_open("again", NORIA_RECV);
    assert_int_equal(noria_recv(one, text, sizeof(text), A_WHILE, &first), 1); /* two is too slow */
    assert_int_equal(text[0], 'a');
    assert_int_equal(first.flags, NORIA_REDELIVERED);
    assert_int_equal(noria_release(two, &other), 0);
    assert_int_equal(noria_recv(one, text, sizeof(text), A_WHILE, &first), 1);
    assert_int_equal(text[0], 'b');
    assert_int_equal(first.flags, NORIA_REDELIVERED); /* it might have been: another one was, before `one` was opened */
    assert_fails(noria_recv(one, text, sizeof(text), 7 * SECOND, NULL), ETIMEDOUT);
    noria_close(one);
    noria_close(two);
    noria_close(tx);
    remove_stream("again");
}

enum { TOGETHER = 100 };

/* Receives so many letters in batches, and says in how many calls. */
static int receive_batches(noria_channel *rx, char *letters, int count)
{
    int calls = 0, got = 0;

    while (got < count) {
        struct iovec buffers[TOGETHER];
        for (int i = got; i < count; i++)
            buffers[i - got] = (struct iovec){letters + i, 1};
        int rc = noria_recv_many(rx, buffers, count - got, A_WHILE, NULL);
        assert_true(rc > 0);
        got += rc;
        calls++;
    }
    return calls;
}

static void several_come_at_once(void **state)
{
    /* Claim: a receiver of many gets those that are there in few calls, in order, and a message that comes later goes to who
     * looks for it; what has come, and was not taken, goes to others when it closes. */
    noria_channel *tx = must_open("together?ack_wait=60", NORIA_SEND | NORIA_CREATE);
    noria_channel *one = must_open("together?ack_wait=60", NORIA_RECV), *two = must_open("together", NORIA_RECV);
    char letters[TOGETHER], next;
    struct iovec buffers[3] = {{letters, 1}, {letters + 1, 1}, {letters + 2, 1}};

    (void)state;
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(noria_send(tx, &(char){(char)i}, 1, A_WHILE), 0);
    assert_true(receive_batches(one, letters, TOGETHER) < TOGETHER / 4);
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(letters[i], i);

    assert_int_equal(noria_send(tx, "a", 1, A_WHILE), 0);
    assert_int_equal(noria_recv_many(one, buffers, 3, A_WHILE, NULL), 1); /* and nothing stands at the server for the rest */
    assert_int_equal(letters[0], 'a');
    assert_int_equal(noria_send(tx, "b", 1, A_WHILE), 0);
    assert_int_equal(noria_recv(two, &next, 1, A_WHILE, NULL), 1);
    assert_int_equal(next, 'b');

    assert_int_equal(noria_send(tx, "c", 1, A_WHILE), 0);
    assert_int_equal(noria_send(tx, "dd", 2, A_WHILE), 0);
    assert_int_equal(noria_send(tx, "e", 1, A_WHILE), 0);
    assert_int_equal(noria_recv_many(one, buffers, 3, A_WHILE, NULL), 1); /* there is no room for the second one */
    assert_int_equal(letters[0], 'c');
    assert_int_equal(noria_close(one), 0);
    for (int i = 0; i < 2; i++) {
        ssize_t len = noria_recv(two, letters + 2 * i, 2, A_WHILE, NULL);
        assert_int_equal(len, letters[2 * i] == 'd' ? 2 : 1);
    }
    assert_int_equal(letters[0] + letters[2], 'd' + 'e');
    noria_close(two);
    noria_close(tx);
    remove_stream("together");
}

static void what_is_received_is_acknowledged_at_once(void **state)
{
    /* Claim: a receiver that makes no other call keeps nothing that it has received: one message, or all that it asked for. */
    noria_channel *tx = must_open("kept?ack_wait=1", NORIA_SEND | NORIA_CREATE);
    noria_channel *one = must_open("kept?ack_wait=1", NORIA_RECV), *two;
    char letters[3];

    (void)state;
    for (int count = 1; count <= 3; count += 2) {
        for (int i = 0; i < count; i++)
            assert_int_equal(noria_send(tx, "k", 1, A_WHILE), 0);
        receive_batches(one, letters, count);
        two = must_open("kept", NORIA_RECV);
        assert_fails(noria_recv(two, letters, 1, 2500 * MS, NULL), ETIMEDOUT);
        noria_close(two);
    }
    noria_close(one);
    noria_close(tx);
    remove_stream("kept");
}

/* Publishes as any program may do; the server's JetStream listens at subjects that noria leaves alone. */
static void publish_by_hand(const char *subject, const char *body)
{
    char text[1024];
    int fd = nats_connect(0);
    int len = snprintf(text, sizeof(text), "CONNECT {\"verbose\":false}\r\nSUB i 1\r\nPUB %s i %zu\r\n%s\r\n", subject,
                       strlen(body), body);

    assert_true(fd >= 0);
    assert_int_equal(send(fd, text, (size_t)len, 0), len);
    do /* INFO at first, then what JetStream answers */
        assert_true((len = (int)recv(fd, text, sizeof(text) - 1, 0)) > 0);
    while (text[len] = '\0', strstr(text, "MSG i ") == NULL);
    close(fd);
}

static void who_gives_few_at_once_is_asked_for_few(void **state)
{
    /* Claim: a receiver of many gets all messages of a consumer that others have made, and that gives but a few at once. */
    noria_channel *tx = must_open("few", NORIA_SEND | NORIA_CREATE), *rx;
    char letters[TOGETHER];

    (void)state;
    publish_by_hand("$JS.API.CONSUMER.DURABLE.CREATE.noria-few.mine",
                    "{\"stream_name\":\"noria-few\",\"config\":"
                    "{\"durable_name\":\"mine\",\"ack_policy\":\"explicit\",\"max_batch\":10}}");
    rx = must_open("few?consumer=mine", NORIA_RECV);
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(noria_send(tx, &(char){(char)i}, 1, A_WHILE), 0);
    receive_batches(rx, letters, TOGETHER);
    for (int i = 0; i < TOGETHER; i++)
        assert_int_equal(letters[i], i);
    noria_close(rx);
    noria_close(tx);
    remove_stream("few");
}

static int send_and_close(const char *text)
{
    noria_channel *tx;
    int rc = open_at(&tx, "family", NORIA_SEND);

    if (rc == 0)
        rc = noria_send(tx, text, 1, A_WHILE);
    if (rc == 0)
        rc = noria_close(tx);
    if (rc != 0)
        print_message("%s: %d, %s\n", text, rc, noria_detail());
    return rc;
}

/* How many pieces of copies of the client are mapped. */
static int count_mapped(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    int count = 0;

    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        count += strstr(line, "memfd:libnats") != NULL;
    if (maps != NULL)
        fclose(maps);
    return count;
}

/* A process sends a letter, and has a child that goes on with the next one. */
static void live_in_turn(char letter, char last)
{
    int status = 0;
    pid_t child = 0;

    for (; child == 0 && status == 0 && letter <= last; letter++) {
        char text[] = {letter, '\0'};
        int mapped = count_mapped();
        alarm(60); /* one that hangs */
        status = send_and_close(text);
        if (status == 0 && count_mapped() <= mapped) {
            print_message("%s: uses its parent's copy of the client\n", text);
            status = 1;
        }
        if (status == 0 && letter < last)
            child = fork();
    }
    if (child != 0 && waitpid(child, &status, 0) != child)
        status = 1;
    _exit(status != 0);
}

static void children_of_children(void **state)
{
    /* Claim: a child opens channels, and its child, and that one's, each with a copy of the client of its own: an
     * inherited one has lost its threads. */
    noria_channel *rx = must_open("family", NORIA_RECV | NORIA_CREATE);
    char text[8];
    int status;
    pid_t child;

    (void)state;
    assert_int_equal(send_and_close("a"), 0);
    child = fork();
    if (child == 0)
        live_in_turn('b', 'd');
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (char letter = 'a'; letter <= 'd'; letter++) {
        assert_int_equal(noria_recv(rx, text, sizeof(text), A_WHILE, NULL), 1);
        assert_int_equal(text[0], letter);
    }
    noria_close(rx);
    remove_stream("family");
}

static void messages_of_others(void **state)
{
    /* Claim: a stream that noria has not made is used, and not removed. */
    noria_channel *channel = NULL;

    (void)state;
    channel = must_open("theirs", NORIA_SEND | NORIA_CREATE);
    noria_close(channel);
    channel = must_open("theirs?stream=noria-theirs", NORIA_SEND | NORIA_RECV);
    assert_int_equal(noria_send(channel, "x", 1, A_WHILE), 0);
    noria_close(channel);
    remove_stream("theirs");
}

/* ------------------------------------------------------------------------------------------------------ servers away */

static void a_server_that_goes_and_comes(void **state)
{
    /* Claim: while the server is away sends and receives end in time with -ENOTCONN and a sentence; when it is back both
     * handles go on, with nothing lost, and what comes twice (the acknowledgement was on its way) is flagged. What the
     * server had answered into a connection that broke comes after ack_wait. */
    noria_channel *tx = must_open("away?ack_wait=2", NORIA_SEND | NORIA_CREATE);
    noria_channel *rx = must_open("away?ack_wait=2", NORIA_RECV);
    struct noria_info info;
    char text[8];

    (void)state;
    assert_int_equal(noria_send(tx, "a", 1, A_WHILE), 0);
    assert_int_equal(noria_recv(rx, text, sizeof(text), A_WHILE, NULL), 1);
    nats_kill(0);
    assert_fails(noria_send(tx, "b", 1, 100 * MS), ENOTCONN);
    assert_says("no server has answered");
    assert_fails(noria_recv(rx, text, sizeof(text), 100 * MS, NULL), ENOTCONN);
    assert_fails(noria_send(tx, "b", 1, 0), ENOTCONN);
    assert_fails(noria_recv(rx, text, sizeof(text), 0, NULL), ENOTCONN);
    nats_restart(0);
    assert_int_equal(noria_send(tx, "c", 1, A_WHILE), 0);
    do
        assert_int_equal(noria_recv(rx, text, sizeof(text), A_WHILE, &info), 1);
    while (text[0] == 'a' && (info.flags & NORIA_REDELIVERED) != 0);
    assert_int_equal(text[0], 'c');
    noria_close(tx);
    noria_close(rx);
    remove_stream("away");
}

static void wrong_credentials(void **state)
{
    /* Claim: who is not let in is told so (-EACCES), and who may not use a subject, too. */
    noria_channel *channel = NULL;
    char address[128];

    (void)state;
    nats_stop();
    nats_extra = "max_payload: 2MB\nauthorization { timeout: 30, users: [ {user: me, password: \"se/cret\"}, "
                 "{user: you, password: x, permissions: {publish: [\"$JS.API.>\"], subscribe: [\">\"]}} ] }";
    nats_start(1);
    assert_fails(open_at(&channel, "kept", NORIA_SEND | NORIA_CREATE), EACCES);
    snprintf(address, sizeof(address), "nats://me:wrong@127.0.0.1:%u/kept", nats_nodes[0].port);
    assert_fails(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &options), EACCES);
    snprintf(address, sizeof(address), "nats://me:se%%2Fcret@127.0.0.1:%u/kept", nats_nodes[0].port);
    assert_int_equal(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &options), 0);
    assert_int_equal(noria_send(channel, "x", 1, A_WHILE), 0);
    noria_close(channel);
    snprintf(address, sizeof(address), "nats://you:x@127.0.0.1:%u/kept", nats_nodes[0].port);
    assert_int_equal(noria_open(&channel, address, NORIA_SEND, &options), 0);
    assert_fails(noria_send(channel, "x", 1, A_WHILE), EACCES);
    noria_close(channel);
}

static void secured_by_certificates(void **state)
{
    /* Claim: with TLS a server whose certificate is not known is refused, and one that is known is used, both ways; a
     * server that goes away costs nobody SIGPIPE. */
    noria_channel *tx = NULL, *rx = NULL;
    char command[600], address[256], conf[400], folder[] = "/tmp/noria-nats-tls-XXXXXX", text[8];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -keyout %s/key -out %s/cert -days 2 -subj /CN=localhost -addext "
             "subjectAltName=IP:127.0.0.1,DNS:localhost >/dev/null 2>&1",
             folder, folder);
    if (system(command) != 0)
        skip();
    nats_stop();
    snprintf(conf, sizeof(conf), "tls { cert_file: \"%s/cert\", key_file: \"%s/key\", timeout: 30 }", folder, folder);
    nats_extra = conf;
    nats_start(1);
    signal(SIGPIPE, SIG_DFL);
    snprintf(address, sizeof(address), "nats://localhost:%u/tls?tls", nats_nodes[0].port);
    assert_int_not_equal(noria_open(&tx, address, NORIA_SEND | NORIA_CREATE, &options), 0);
    snprintf(address, sizeof(address), "nats://localhost:%u/tls?ca=%s/cert", nats_nodes[0].port, folder);
    assert_int_equal(noria_open(&tx, address, NORIA_SEND | NORIA_CREATE, &options), 0);
    assert_int_equal(noria_open(&rx, address, NORIA_RECV, &options), 0);
    assert_int_equal(noria_send(tx, "x", 1, A_WHILE), 0);
    assert_int_equal(noria_recv(rx, text, sizeof(text), A_WHILE, NULL), 1);
    nats_kill(0);
    assert_fails(noria_send(tx, "y", 1, 200 * MS), ENOTCONN);
    nats_restart(0);
    assert_int_equal(noria_send(tx, "z", 1, A_WHILE), 0);
    noria_close(tx);
    noria_close(rx);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* A message through a channel there. */
static void expect_to_get_through(const char *address)
{
    noria_channel *channel = NULL;
    char text[8];
    int rc = noria_open(&channel, address, NORIA_SEND | NORIA_RECV | NORIA_CREATE, &options);

    if (rc != 0)
        print_message("%s: %d, %s\n", address, rc, noria_detail());
    assert_int_equal(rc, 0);
    assert_int_equal(noria_send(channel, "x", 1, A_WHILE), 0);
    assert_int_equal(noria_recv(channel, text, sizeof(text), A_WHILE, NULL), 1);
    assert_int_equal(noria_close(channel), 0);
}

static void known_by_a_certificate(void **state)
{
    /* Claim: a server that asks for a certificate takes who shows one by cert= and key=, and nobody else. */
    noria_channel *channel = NULL;
    char command[600], address[400], conf[500], folder[] = "/tmp/noria-nats-tls-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(command, sizeof(command),
             "openssl req -x509 -newkey rsa:2048 -nodes -keyout %s/key -out %s/cert -days 2 -subj /CN=localhost -addext "
             "subjectAltName=IP:127.0.0.1,DNS:localhost >/dev/null 2>&1",
             folder, folder);
    if (system(command) != 0)
        skip();
    nats_stop();
    snprintf(conf, sizeof(conf), "tls { cert_file: \"%s/cert\", key_file: \"%s/key\", ca_file: \"%s/cert\", verify: true, "
             "timeout: 30 }", folder, folder, folder);
    nats_extra = conf;
    nats_start(1);
    snprintf(address, sizeof(address), "nats://localhost:%u/tls?ca=%s/cert", nats_nodes[0].port, folder);
    assert_true(noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, &options) < 0);
    snprintf(address, sizeof(address), "nats://localhost:%u/tls?ca=%s/cert&cert=%s/cert&key=%s/key", nats_nodes[0].port,
             folder, folder, folder);
    expect_to_get_through(address);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void known_by_credentials(void **state)
{
    /* Claim: a server with an operator takes who has credentials by creds=, and nobody else (-EACCES). */
    static const char *const conf = "operator: \"" NATS_OPERATOR "\"\nsystem_account: " NATS_SYSTEM
                                    "\nresolver: MEMORY\nresolver_preload: {\n" NATS_SYSTEM ": \"" NATS_SYSTEM_TOKEN
                                    "\"\n" NATS_ACCOUNT ": \"" NATS_ACCOUNT_TOKEN "\"\n}";
    noria_channel *channel = NULL;
    char path[] = "/tmp/noria-nats-creds-XXXXXX", address[256];
    int fd = mkostemp(path, O_CLOEXEC);

    (void)state;
    assert_true(dprintf(fd, "-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n"
                            "-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n",
                        NATS_USER_TOKEN, NATS_USER_SEED) > 0);
    close(fd);
    nats_stop();
    nats_extra = conf;
    nats_start(1);
    assert_fails(open_at(&channel, "known", NORIA_SEND | NORIA_CREATE), EACCES);
    snprintf(address, sizeof(address), "nats://127.0.0.1:%u/known?creds=%s", nats_nodes[0].port, path);
    expect_to_get_through(address);
    unlink(path);
}

static void no_jetstream(void **state)
{
    /* Claim: a server without JetStream is -ENOTSUP with what is missing. */
    noria_channel *channel = NULL;

    (void)state;
    nats_stop();
    nats_extra = "jetstream: disabled";
    nats_start(1);
    assert_fails(open_at(&channel, "none", NORIA_SEND | NORIA_CREATE), ENOTSUP);
    assert_says("JetStream");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(wrong_addresses, setup),
        cmocka_unit_test_setup(nobody_there, setup),
        cmocka_unit_test_setup(streams_are_made_found_and_removed, setup),
        cmocka_unit_test_setup(several_make_one_at_once, setup),
        cmocka_unit_test_setup(limits_are_told, setup),
        cmocka_unit_test_setup(what_is_not_released_comes_again, setup),
        cmocka_unit_test_setup(several_come_at_once, setup),
        cmocka_unit_test_setup(what_is_received_is_acknowledged_at_once, setup),
        cmocka_unit_test_setup(who_gives_few_at_once_is_asked_for_few, setup),
        cmocka_unit_test_setup(children_of_children, setup),
        cmocka_unit_test_setup(messages_of_others, setup),
        cmocka_unit_test_setup(a_server_that_goes_and_comes, setup),
        cmocka_unit_test_setup(wrong_credentials, setup),
        cmocka_unit_test_setup(secured_by_certificates, setup),
        cmocka_unit_test_setup(known_by_a_certificate, setup),
        cmocka_unit_test_setup(known_by_credentials, setup),
        cmocka_unit_test_setup(no_jetstream, setup),
    };
    int failed;

    nats_extra = "max_payload: 2MB";
    nats_start(1);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    nats_stop();
    return failed;
}
