/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Other processes for a test: forked, told what to do, listened to, stopped, killed. They talk with the test
 * through semaphores in a shared page, so nobody sleeps to be in time.
 */
#ifndef NORIA_PEERS_H
#define NORIA_PEERS_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct peers_page {
    sem_t said;   /* by peers */
    sem_t told;   /* by the test */
    sem_t told_to_end;
    int64_t numbers[64];
};
extern struct peers_page *peers;

void peers_begin(void);
void peers_end(void); /* kills who is left */

pid_t start_peer(void (*body)(void)); /* the body ends with its return: exit status 0 */
void await_peer(void);                /* until one says so; fails the test after a minute */
void tell_peer(void);
void tell_peer_to_end(void);

void stop_peer(pid_t pid);
void continue_peer(pid_t pid);
void kill_peer(pid_t pid);    /* and reaps */
void kill_unreaped(pid_t pid); /* leaves a zombie */
void expect_end(pid_t pid);   /* exit status 0 */

/* In a peer; be_child() only where it was forked by other means. */
void be_child(void);
void say(void);
void await_order(void);
void await_end(void);
void peer_requires(bool condition, const char *file, int line);
#define PEER_REQUIRES(condition) peer_requires(condition, __FILE__, __LINE__)

/* Whether the process sleeps in the kernel. */
bool is_asleep(pid_t pid);

#endif
