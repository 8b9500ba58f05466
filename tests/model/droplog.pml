/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log of who drops a message to make room (channel/overwrite_kind.c), with settlers that die. One slot; its word
 * never comes back, so a compare-and-swap of it is one of its version. Memory is sequentially consistent.
 *
 *     dropper, in several lives            settler of life k, any number of them
 *     take     FULL -> READING             dropped is open: certify k; slot READING with the sequence of the log:
 *     log      dropping = sequence             certify k, slot -> EMPTY;  dropped -> count + 1, from exactly the open word
 *              dropped = open              then the slot: READING: certify k, -> ORPHAN, which receivers get
 *     release  READING -> EMPTY            certify k, free the entry: the number is reborn
 *     done     dropped = count + 1
 *
 * Claim: when all have come to rest, each message that was sent was received once, or is counted as lost once, or is
 * still there.
 *
 * pass: -DSETTLERS=1
 * pass: -DSETTLERS=2
 * long: -DSETTLERS=2 -DMESSAGES=4 -DLIVES=4
 * reject: -DBROKEN=1 no log: the dropper counts when it is done
 * reject: -DBROKEN=2 who settles frees the slot as an orphan first, then counts
 * reject: -DBROKEN=3 dropped is stored, not swapped from exactly the open word
 * reject: -DBROKEN=4 the slot is told by its reader alone, not by the message
 * reject: -DBROKEN=5 a drop that had not come to the slot is taken back: the word comes again
 * reject: -DBROKEN=6 the loss is counted before the slot is freed
 */
#ifndef SETTLERS
#define SETTLERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef LIVES
#define LIVES 3
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

mtype = { FULL, READING, EMPTY, ORPHAN };

/* Shared memory. */
mtype slot = EMPTY;
byte version, sequence; /* of the slot's word, of its message */
byte dropping, dropped; /* count << 1 | open */
byte life = 1;          /* of the entry */

/* What the checks know. */
bool dead, at_rest;
byte sent, received, settler_deaths = SETTLERS - 1, settlers = SETTLERS;

#define shared(change) \
    atomic { \
        if \
        :: life < LIVES && !dead -> dead = true; goto died \
        :: true -> change \
        fi \
    }

proctype dropper() {
    byte count;
again:
    do
    :: atomic { slot == FULL && !dead -> /* take */
            if
            :: life < LIVES -> dead = true; goto died
            :: true -> slot = READING; version++
            fi
        }
        if
        :: BROKEN != 1 -> shared(dropping = sequence); shared(dropped = dropped | 1)
        :: else
        fi;
        shared(slot = EMPTY; version++);
        shared(dropped = ((dropped >> 1) + 1) << 1)
    :: atomic { sent == MESSAGES && slot != FULL -> goto ended }
    od;
died:
    atomic { !dead -> goto again };
ended:
    at_rest = true
}

/* Another thread of the dropper's handle, which receives. It dies with it; what it held then is an orphan. */
proctype fellow() {
    byte mine;
    do
    :: atomic { slot == FULL && !dead -> slot = READING; version++; mine = version };
        atomic {
            if
            :: !dead && version == mine -> slot = EMPTY; version++; received++
            :: else
            fi;
            mine = 0
        }
    :: atomic { at_rest && slot != FULL -> break }
    od
}

/* Sends, and receives now and then. */
proctype others() {
    do
    :: atomic { slot == EMPTY && sent < MESSAGES -> sent++; sequence = sent; slot = FULL; version++ }
    :: atomic { slot == FULL || slot == ORPHAN -> slot = EMPTY; version++; received++ }
    :: atomic { at_rest && settlers == 0 && !dead && slot == EMPTY && sent == MESSAGES -> break }
    od;
    assert(sent == received + (dropped >> 1))
}

#define CERTIFIED (dead && life == k)
#define may_die if :: atomic { settler_deaths > 0 -> settler_deaths--; goto ended } :: true fi

proctype settler() {
    byte k, open, wanted, seen;
    bool mine;
    do
    :: atomic { dead -> k = life };
log:
        atomic { open = dropped; seen = 0; mine = false };
        if
        :: BROKEN == 2 -> goto slots
        :: else
        fi;
judge:
        if
        :: (open & 1) == 0 -> goto slots
        :: else
        fi;
        wanted = dropping;
        if
        :: !CERTIFIED -> goto next
        :: else
        fi;
        may_die;
        if
        :: BROKEN == 6 -> atomic { if :: dropped == open -> dropped = open + 1 :: else fi }; may_die
        :: else
        fi;
        atomic { seen = version; mine = slot == READING && (BROKEN == 4 || sequence == wanted) };
        if
        :: mine && !CERTIFIED -> goto next
        :: mine && BROKEN == 5 -> atomic { if :: dropped == open -> dropped = open - 1 :: else fi }; goto log
        :: mine && BROKEN != 5 && CERTIFIED ->
            atomic {
                if
                :: version == seen -> slot = EMPTY; version++
                :: else -> goto log
                fi
            }
        :: !mine
        fi;
        may_die;
        atomic {
            if
            :: BROKEN == 3 -> dropped = open + 1
            :: BROKEN != 3 && dropped == open -> dropped = open + 1
            :: else
            fi
        };
        may_die;
        if
        :: BROKEN == 2 -> goto free
        :: else -> goto log
        fi;
slots:
        atomic { seen = version; mine = slot == READING };
        if
        :: mine && CERTIFIED -> atomic { if :: version == seen -> slot = ORPHAN; version++ :: else -> goto slots fi }
        :: mine && !CERTIFIED -> goto next
        :: !mine
        fi;
        may_die;
        if
        :: BROKEN == 2 && (open & 1) != 0 -> goto judge
        :: else
        fi;
free:
        atomic { if :: CERTIFIED -> dead = false; life++ :: else fi };
next:
        atomic { k = 0; open = 0; wanted = 0; seen = 0; mine = false }
    :: atomic { at_rest && !dead -> break }
    od;
ended:
    settlers--
}

init {
    byte i;
    atomic {
        for (i : 1 .. SETTLERS) { run settler() }
        run dropper();
        run fellow();
        run others();
        i = 0
    }
}
