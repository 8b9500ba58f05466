/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC32C (Castagnoli's polynomial, RFC 3720): of frames, and of records with a checksum. */
#ifndef NORIA_CRC32C_H
#define NORIA_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of bytes, going on from that of what stands before them (0: nothing). */
uint32_t noria_crc32c(uint32_t crc, const void *bytes, size_t len);

#endif
