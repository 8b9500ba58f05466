/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mailboxes with names, which several processes may share: whoever takes a letter has it alone, and if it dies with the
 * letter in its hands, somebody else gets it. One who serves several boxes waits at all of them.
 *
 *     mailboxes take desk & mailboxes take desk hall &
 *     mailboxes post desk one two three
 *     mailboxes hold desk                   takes one and does not let go: kill it, and see who gets that letter
 *     noria who shm:/mailbox-UID-desk; noria rm shm:/mailbox-UID-desk
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <noria/noria.h>

enum { MOST_BOXES = 16, LOOK_NS = 100000000 };

static int fail(void)
{
    fprintf(stderr, "mailboxes: %s\n", noria_detail());
    return 1;
}

/* A letter that goes in is there, whoever ends after that; the box stays until somebody removes it. */
static int open_box(noria_channel **box, const char *name, int role)
{
    char address[128];

    snprintf(address, sizeof address, "shm:/mailbox-%u-%s", (unsigned)getuid(), name); /* users do not meet by chance */
    return noria_open(box, address, role | NORIA_CREATE, NULL);
}

static int post(const char *name, char **letters)
{
    noria_channel *box;

    if (open_box(&box, name, NORIA_SEND) != 0)
        return fail();
    for (; *letters != NULL; letters++)
        if (noria_send(box, *letters, strlen(*letters), -1) != 0)
            return fail();
    return noria_close(box) != 0;
}

/* Printed first, then released: who dies in between has another one print it again, and that one is told. The other way
 * round it could be printed by nobody. */
static int take_one(noria_channel *box, const char *name, int holds)
{
    struct noria_span letter;
    struct noria_info info;
    int rc = noria_peek(box, &letter, 0, &info);

    if (rc != 0)
        return rc;
    printf("%s: %.*s%s\n", name, (int)letter.len, (const char *)letter.data,
           (info.flags & NORIA_REDELIVERED) != 0 ? " (a receiver died with it)" : "");
    fflush(stdout);
    while (holds)
        pause();
    return noria_release(box, &letter);
}

/* Until nobody is left who could post, nor could die with a letter. */
static int take(char **names, int n, int holds)
{
    struct noria_ready boxes[MOST_BOXES];
    int rc;

    for (int i = 0; i < n; i++) {
        boxes[i] = (struct noria_ready){.side = NORIA_RECV};
        if (open_box(&boxes[i].channel, names[i], NORIA_RECV) != 0)
            return fail();
    }
    while (n > 0) {
        for (int i = n - 1; i >= 0; i--) {
            while ((rc = take_one(boxes[i].channel, names[i], holds)) == 0)
                ;
            if (rc != -EAGAIN && rc != -EPIPE)
                return fail();
            if (rc == -EPIPE) {
                noria_close(boxes[i].channel);
                boxes[i] = boxes[--n];
                names[i] = names[n];
            }
        }
        /* With a timeout: a sender killed between its letter and its bell has told nobody. */
        if (n > 0 && noria_wait_any(boxes, n, LOOK_NS) < 0)
            return fail();
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "post") == 0)
        return post(argv[2], argv + 3);
    if (argc >= 3 && argc - 2 <= MOST_BOXES && (strcmp(argv[1], "take") == 0 || strcmp(argv[1], "hold") == 0))
        return take(argv + 2, argc - 2, argv[1][0] == 'h');
    return fprintf(stderr, "usage: mailboxes post BOX LETTER... | mailboxes take BOX... | mailboxes hold BOX\n"), 2;
}
