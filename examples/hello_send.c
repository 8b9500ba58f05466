/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sends its arguments as messages, and makes the channel if it is not there yet.
 *
 *     examples/hello_recv &
 *     examples/hello_send hello world
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <noria/noria.h>

int main(int argc, char **argv)
{
    char address[64];
    snprintf(address, sizeof address, "shm:/hello-%u", (unsigned)getuid()); /* users do not meet by chance */

    noria_channel *channel;
    if (noria_open(&channel, address, NORIA_SEND | NORIA_CREATE, NULL) != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], noria_detail());
        return 1;
    }
    int status = 0;
    for (int i = 1; i < argc && status == 0; i++) {
        if (noria_send(channel, argv[i], strlen(argv[i]), -1) < 0) {
            fprintf(stderr, "%s: %s\n", argv[0], noria_detail());
            status = 1;
        }
    }
    noria_close(channel);
    return status;
}
