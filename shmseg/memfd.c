/* SPDX-License-Identifier: BSD-2-Clause */
/* Segments without a name: memfds. They live as long as somebody has them open or mapped; nothing is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "detail.h"
#include "liveness.h"
#include "mapped_file.h"

/* Seals on a finished segment: it cannot be truncated under anybody, nor the seals be changed. */
#define SIZE_IS_FINAL (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* MFD_NOEXEC_SEAL is newer than Debian 12's headers. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static int make_memfd(void)
{
    int fd = memfd_create("noria", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("noria", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

static int parse_descriptor(const char *name)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(name, &end, 10);
    if (errno != 0 || end == name || *end != '\0' || number < 0 || number > 1 << 30)
        return noria_fail(-EINVAL, "'memfd:%s' names no descriptor: write memfd:3, or anon: for new memory", name);
    return (int)number;
}

static int find_memfd(const char *name)
{
    int inherited = parse_descriptor(name), own;

    if (inherited < 0)
        return inherited;
    if (fcntl(inherited, F_GET_SEALS) < 0)
        return noria_fail(-EINVAL, "descriptor %d is not open, or not a memfd that was made with MFD_ALLOW_SEALING",
                          inherited);
    /* Locks on an inherited description would be shared with whoever passed it. */
    own = noria_lock_own_description(inherited);
    if (own == -EMFILE || own == -ENFILE)
        return noria_segment_refuse_descriptor("memfd", name, -own);
    return own >= 0 ? own : noria_fail(own, "cannot reopen memfd %d through /proc/self/fd: %s", inherited,
                                       noria_error_words(own));
}

static int obtain(struct noria_segment *segment, const struct noria_segment_request *request, bool *made)
{
    int fd;

    *made = request->name[0] == '\0';
    if (*made && !request->create)
        return noria_fail(-EINVAL, "'anon:' is always new memory: open it with NORIA_CREATE");
    fd = *made ? make_memfd() : find_memfd(request->name);
    if (*made && fd < 0 && (errno == EMFILE || errno == ENFILE))
        return noria_segment_refuse_descriptor("anon", "", errno);
    if (*made && fd < 0)
        return noria_fail(-errno, "cannot make a memfd: %s", noria_error_words(errno));
    return fd >= 0 ? noria_file_obtained(segment, fd) : fd;
}

static int obtain_view(struct noria_segment *segment, const char *name)
{
    int fd = find_memfd(name);

    return fd >= 0 ? noria_file_obtained(segment, fd) : fd;
}

static int seal(struct noria_segment *segment)
{
    int seals, error;

    if (fcntl(segment->fd, F_ADD_SEALS, SIZE_IS_FINAL) == 0)
        return 0;
    error = errno;
    seals = fcntl(segment->fd, F_GET_SEALS);
    if (seals >= 0 && (seals & SIZE_IS_FINAL) == SIZE_IS_FINAL)
        return 0;
    return noria_fail(-error, "cannot seal the memfd, so that it neither shrinks nor grows: make it with MFD_ALLOW_SEALING, "
                      "and leave the seals to noria");
}

static int remove_name(struct noria_segment *segment, const char *name, int64_t until_ns)
{
    (void)segment;
    (void)until_ns;
    return noria_fail(-ENOTSUP, "'%s': memory without a name goes with its last user; there is nothing to unlink",
                      name);
}

const struct noria_segment_backend noria_segment_memfd = {
    .scheme = "memfd", .named = false, .obtain = obtain, .obtain_view = obtain_view, .seal = seal,
    .unlink = remove_name, NORIA_FILE_VERBS};
