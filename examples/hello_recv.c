/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Prints messages until every sender has left, then removes the channel. It may be started before or after
 * hello_send: messages wait in the channel, and the receiver waits for the first sender.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <noria/noria.h>

static int fail(const char *program)
{
    fprintf(stderr, "%s: %s\n", program, noria_detail());
    return 1;
}

int main(int argc, char **argv)
{
    (void)argc;
    char address[64];
    snprintf(address, sizeof address, "shm:/hello-%u", (unsigned)getuid());

    noria_channel *channel;
    if (noria_open(&channel, address, NORIA_RECV | NORIA_CREATE, NULL) != 0)
        return fail(argv[0]);

    char text[256];
    struct noria_info info;
    ssize_t length;
    while ((length = noria_recv(channel, text, sizeof text, -1, &info)) >= 0)
        printf("%.*s (from participant %u)\n", (int)length, text, info.sender);
    int status = length == -EPIPE ? 0 : fail(argv[0]); /* -EPIPE is the end of the stream */

    noria_close(channel);
    noria_unlink(address);
    return status;
}
