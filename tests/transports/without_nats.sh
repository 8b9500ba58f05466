#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Stands for the tests of nats: where the library was built without it, so that they are not missing unseen.
echo "noria was built without libnats, so nothing of nats: is tested; install it (Debian: libnats-dev) and set up the build anew"
exit 77
