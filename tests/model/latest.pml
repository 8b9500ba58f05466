/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The latest-value cell (ring/latest.h). Memory is sequentially consistent; that words of the bytes are released and
 * acquired stands for the order of stamp and bytes.
 *
 *     writer                                   reader
 *     load current                             load current
 *     take my buffer that is not current       its stamp: the version of current?
 *     stamp = version + 1, writing             two words of the bytes
 *     two words of the bytes                   its stamp again
 *     stamp = version + 1
 *     current: swapped, if it is as it was
 *
 * A writer may die before any change, as often as DEATHS says; a successor sends under its number.
 *
 * Claim: what a receive gives is one message, whole; not older than any whose send had returned when it began; newer than
 * what it gave before. "Nothing new" is true. No writer writes what is current.
 *
 * pass: -DDEATHS=1
 * pass: -DSENDS=3 -DRECEIVES=3 -DWRITERS=1
 * pass: -DWRITERS=1 -DSENDS=4 -DDEATHS=1
 * long: -DSENDS=3 -DDEATHS=1
 * reject: -DBROKEN=1 -DWRITERS=1 the buffer that is current is written
 * reject: -DBROKEN=2 no second look at the stamp
 * reject: -DBROKEN=3 current is stored, not swapped: an older one comes after a newer one
 * reject: -DBROKEN=4 -DSENDS=3 the stamp does not say that it is being written
 * reject: -DBROKEN=5 -DSENDS=3 the stamp is not compared with the version in current
 */
#ifndef WRITERS
#define WRITERS 2
#endif
#ifndef SENDS
#define SENDS 2
#endif
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef RECEIVES
#define RECEIVES 2
#endif
#ifndef BROKEN
#define BROKEN 0
#endif

#define WRITING 128

/* Shared memory: current, and two buffers per writer. */
byte version, owner; /* of current; owner = 2 * writer + buffer; one word */
byte stamp[2 * WRITERS], first[2 * WRITERS], second[2 * WRITERS];
bool there;

/* What the checks know. */
byte deaths = DEATHS, ids, done /* newest version whose send returned */;

#define shared(change) \
    atomic { \
        if \
        :: deaths > 0 -> deaths--; goto died \
        :: true -> change \
        fi \
    }

proctype writer(byte me) {
    byte v, o, b, id, sends;
    do
    :: sends < SENDS ->
        atomic { sends++; ids++; id = ids };
        atomic {
            v = version; o = owner;
            if
            :: there && o / 2 == me && BROKEN != 1 -> b = 2 * me + 1 - (o & 1)
            :: there && o / 2 == me && BROKEN == 1 -> b = o
            :: else -> b = 2 * me
            fi
        };
        if
        :: BROKEN != 4 -> shared(stamp[b] = WRITING + v + 1)
        :: else
        fi;
        shared(assert(!there || owner != b); first[b] = id);
        shared(second[b] = id);
        shared(stamp[b] = v + 1);
        shared(
            if
            :: version == v || BROKEN == 3 -> version = v + 1; owner = b; there = true
            :: else
            fi);
        atomic {
            done = (done > v + 1 -> done : v + 1);
            goto next
        };
died:
        skip;
next:
        atomic { v = 0; o = 0; b = 0; id = 0 }
    :: else -> break
    od
}

proctype reader() {
    byte v, o, s, x, y, must, seen, n;
    do
    :: n < RECEIVES ->
        n++;
again:
        atomic {
            must = done; v = version; o = owner; 
            if
            :: !there || v == seen -> assert(seen >= must); goto next
            :: else
            fi
        };
        s = stamp[o];
        if
        :: s != v && BROKEN != 5 -> goto overtaken
        :: else
        fi;
        x = first[o];
        y = second[o];
        if
        :: stamp[o] != s && BROKEN != 2 -> goto overtaken
        :: else
        fi;
        atomic { assert(x == y && v >= must && v > seen && x != 0); seen = v; goto next };
overtaken:
        goto again;
next:
        atomic { v = 0; o = 0; s = 0; x = 0; y = 0; must = 0 }
    :: else -> break
    od
}

init {
    byte i;
    atomic {
        for (i : 1 .. WRITERS) { run writer(i - 1) }
        run reader();
        i = 0
    }
}
