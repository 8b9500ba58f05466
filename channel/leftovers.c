/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the dead have left and nobody can want: `noria gc`.
 *
 *   - Channels without a magic whose creation lock is free: the creator died. The lock is held over judgement and
 *     removal, so whoever opens at the same time waits for it, finds the name gone, and looks again (segment.c).
 *   - Channels that were to go with their last participant, when no participant lives. Joining such a channel and
 *     deciding about its name exclude each other by the same lock (lifecycle.c).
 *   - What they left without a name: locks of System V segments that are gone, memory that was just being made (sysv.c).
 *   - FIFOs and semaphores named after a channel that has no name any more, and that nobody has open or mapped. A
 *     participant of an unlinked channel who asks for his FIFO later makes it again. Those of channels in files on disk
 *     stay, for files are not listed, unless the caller says in which directories they are.
 *
 * The objects are listed before the channels: one whose channel is not there afterwards is of a channel that has gone,
 * and not of one that has just come.
 *
 * Channels that persist stay, whoever died. Empty files stay if they may be anybody's (NORIA_SEGMENT_NEW_MODE).
 */
#include <noria/inspect.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "detail.h"
#include "named_bell.h"
#include "number.h"
#include "segment_channel.h"

#define PLACE "/dev/shm"
enum { ID_DIGITS = 32, NAME_MOST = 250, MOST_SETS = 1024 };

struct collection {
    bool dry_run;
    const struct noria_segment_backend *backend; /* whose channels are looked at */
    void (*each)(const struct noria_leftover *, void *);
    void *context;
    const char *const *folders; /* with channels in files */
    int n_folders;              /* 0: not known, and what belongs to files stays */
    int removed;
    uint64_t (*ids)[2]; /* of the channels that are there */
    size_t known, room;
    bool out_of_memory; /* some id is missing: objects are not judged */
};

/* `scheme`: of a channel; NULL: `name` says it all. */
static void tell(struct collection *collection, const char *scheme, const char *name, uint32_t kind, int result)
{
    struct noria_leftover leftover = {.kind = kind, .result = result};

    snprintf(leftover.name, sizeof(leftover.name), "%s%s%s", scheme != NULL ? scheme : "", scheme != NULL ? ":" : "",
             name);
    collection->removed += result == 0;
    if (collection->each != NULL)
        collection->each(&leftover, collection->context);
}

/* -------------------------------------------------------------------------------------------------------- channels */

/* A channel as the reaper found it. */
struct find {
    struct noria_segment_channel channel; /* its segment is the reaper's */
    uint32_t kind;                        /* enum noria_leftover_kind; UNKNOWN: none */
};

/* Nobody who could be alive: no lock, and nobody in the table who maps it all the same. */
static bool nobody_lives(struct noria_segment_channel *channel)
{
    if (channel->segment.backend->any_held(&channel->segment) != 0)
        return false;
    for (uint32_t number = 1; number <= channel->geometry.max_participants; number++) {
        uint64_t word = noria_load_acquire64(&channel->table[number - 1].word); /* pairs with join */
        if (NORIA_ENTRY_STATE(word) == NORIA_ENTRY_LIVE && !noria_participant_is_dead(channel, number, word, true))
            return false;
    }
    return true;
}

static bool is_waste(const struct noria_segment *segment, enum noria_segment_waste found, void *context)
{
    struct find *find = context;
    struct noria_segment_channel *channel = &find->channel;

    if (found == NORIA_SEGMENT_IS_UNFINISHED) {
        find->kind = NORIA_LEFTOVER_UNFINISHED;
        return true;
    }
    channel->segment = *segment;
    noria_process_self(&channel->self);
    if (noria_segment_channel_adopt(channel) != 0 || channel->geometry.lifetime == NORIA_PERSIST ||
        !nobody_lives(channel))
        return false;
    find->kind = NORIA_LEFTOVER_DESERTED;
    return true;
}

/* A name in /dev/shm that cannot be looked into may be anybody's; in System V only what has a set of locks is listed. */
static bool sounds_like_ours(const char *name)
{
    return name[0] != '/' || strncmp(strrchr(name, '/'), "/noria", 6) == 0;
}

static int collect_channel(const char *name, void *context)
{
    struct collection *collection = context;
    const struct noria_segment_backend *backend = collection->backend;
    struct find find = {.kind = NORIA_LEFTOVER_UNKNOWN};
    int rc = noria_segment_reap(backend, name, collection->dry_run, is_waste, &find);

    if (rc == 1 && find.kind == NORIA_LEFTOVER_DESERTED && !collection->dry_run)
        noria_waiting_remove(&find.channel);
    if (find.kind != NORIA_LEFTOVER_UNKNOWN && rc != 0) /* 0: another has removed it meanwhile */
        tell(collection, backend->scheme, name, find.kind, rc == 1 ? 0 : rc);
    else if (rc == -EFBIG || (rc == -EACCES && sounds_like_ours(name))) /* too large is only what has our magic */
        tell(collection, backend->scheme, name, NORIA_LEFTOVER_UNKNOWN, rc);
    return 0;
}

/* By which name the objects of a channel that stays go. */
static int remember_id(const char *name, void *context)
{
    struct collection *collection = context;
    struct noria_segment_channel channel;

    if (noria_segment_channel_peek(&channel, collection->backend, name) != 0)
        return 0;
    if (collection->known == collection->room) {
        size_t room = 2 * collection->room + 64;
        uint64_t(*larger)[2] = realloc(collection->ids, room * sizeof(*larger));
        collection->out_of_memory = collection->out_of_memory || larger == NULL;
        collection->ids = larger != NULL ? larger : collection->ids;
        collection->room = larger != NULL ? room : collection->room;
    }
    if (collection->known < collection->room)
        noria_waiting_name(&channel, collection->ids[collection->known++]);
    noria_segment_close(&channel.segment);
    return 0;
}

/* What has no name, or none any more. */
static void tell_of_remnant(const char *what, bool is_memory, int result, void *context)
{
    tell(context, NULL, what, is_memory ? NORIA_LEFTOVER_UNFINISHED : NORIA_LEFTOVER_SEMAPHORE, result);
}

/* Files are listed where the caller says they are. */
static int list_names(struct collection *collection, int (*each)(const char *name, void *context))
{
    int rc = 0;

    if (collection->backend->list != NULL)
        return collection->backend->list(each, collection);
    for (int i = 0; i < collection->n_folders && rc == 0; i++)
        rc = noria_files_of_folder(collection->folders[i], each, collection);
    return rc;
}

static int collect_of_backend(const struct noria_segment_backend *backend, void *context)
{
    struct collection *collection = context;
    int rc;

    collection->backend = backend;
    if (backend->sweep != NULL) /* before a channel is removed, which sweeps as well, and tells nobody */
        backend->sweep(collection->dry_run, tell_of_remnant, collection);
    rc = list_names(collection, collect_channel);
    return rc == 0 ? list_names(collection, remember_id) : rc;
}

/* --------------------------------------------------------------------------------------------- FIFOs and semaphores */

/* noria-<32 digits>-r or -s, with "sem." in front or not. Its digits, or NULL. */
static const char *digits_of(const char *name)
{
    const char *digits = strncmp(name, "sem.", 4) == 0 ? name + 4 : name;

    if (strncmp(digits, "noria-", 6) != 0)
        return NULL;
    digits += 6;
    if (strspn(digits, "0123456789abcdef") != ID_DIGITS ||
        (strcmp(digits + ID_DIGITS, "-r") != 0 && strcmp(digits + ID_DIGITS, "-s") != 0))
        return NULL;
    return digits;
}

/* Of one that is listed, or cannot be. */
static bool belongs_to_channel(const struct collection *collection, const uint64_t id[2])
{
    bool belongs = collection->n_folders == 0 && noria_waiting_name_is_of_file(id);

    for (size_t i = 0; i < collection->known && !belongs; i++)
        belongs = collection->ids[i][0] == id[0] && collection->ids[i][1] == id[1];
    return belongs;
}

static void id_of(const char *digits, uint64_t id[2])
{
    for (int i = 0; i < 2; i++) {
        char half[ID_DIGITS / 2 + 1] = "";
        memcpy(half, digits + i * (ID_DIGITS / 2), ID_DIGITS / 2);
        noria_number_parse(half, 16, &id[i]);
    }
}

/* Everybody who uses a FIFO has it open for reading, too. */
static bool fifo_is_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno != ENXIO;
}

/* A process that may not be looked at cannot have opened what only its owner may open, unless it is root's. */
static bool is_mapped(const struct stat *status)
{
    bool closed_to_others = (status->st_mode & (S_IRWXG | S_IRWXO)) == 0;
    DIR *processes = opendir("/proc");
    bool mapped = processes == NULL;
    struct dirent *entry;

    while (!mapped && (entry = readdir(processes)) != NULL) {
        uint64_t pid;
        int maps = noria_number_parse(entry->d_name, 10, &pid) != NULL && pid <= INT32_MAX
                       ? noria_process_maps((int32_t)pid, status->st_dev, status->st_ino)
                       : 0;
        mapped = maps == 1 || (maps < 0 && maps != -ENOENT && maps != -ESRCH && !closed_to_others);
    }
    if (processes != NULL)
        closedir(processes);
    return mapped;
}

static void collect_object(struct collection *collection, const char *name)
{
    uint64_t id[2] = {0, 0};
    char path[sizeof(PLACE) + 1 + NAME_MOST + 1];
    struct stat status;
    uint32_t kind;

    id_of(digits_of(name), id);
    if (collection->out_of_memory || belongs_to_channel(collection, id))
        return;
    snprintf(path, sizeof(path), PLACE "/%.250s", name);
    if (lstat(path, &status) != 0 || (!S_ISFIFO(status.st_mode) && !S_ISREG(status.st_mode)))
        return;
    kind = S_ISFIFO(status.st_mode) ? NORIA_LEFTOVER_FIFO : NORIA_LEFTOVER_SEMAPHORE;
    if (status.st_uid != geteuid() && geteuid() != 0)
        return; /* his own gc's */
    if (kind == NORIA_LEFTOVER_FIFO ? fifo_is_open(path) : is_mapped(&status))
        return;
    tell(collection, NULL, path, kind, collection->dry_run || unlink(path) == 0 ? 0 : -errno);
}

static void collect_set(struct collection *collection, const struct noria_unused_set *unused)
{
    char name[64];
    int rc = collection->out_of_memory || belongs_to_channel(collection, unused->id)
                 ? 0
                 : noria_sysv_semaphore_remove_unused(unused, collection->dry_run);

    snprintf(name, sizeof(name), "System V set 0x%08x", unused->key);
    if (rc != 0)
        tell(collection, NULL, name, NORIA_LEFTOVER_SEMAPHORE, rc == 1 ? 0 : rc);
}

/* -------------------------------------------------------------------------------------------------------- the whole */

static int may_be_object(const struct dirent *entry)
{
    return digits_of(entry->d_name) != NULL;
}

static int pass_over(const char *name, void *context)
{
    (void)name;
    (void)context;
    return 0;
}

/* Before anything is removed. */
static int check_folders(const char *const *folders, int n)
{
    int rc = n < 0 || (n > 0 && folders == NULL)
                 ? noria_fail(-EINVAL, "noria_gc_folders takes directories, and how many they are")
                 : 0;

    for (int i = 0; i < n && rc == 0; i++)
        rc = noria_files_of_folder(folders[i], pass_over, NULL);
    return rc;
}

int noria_gc(int dry_run, void (*each)(const struct noria_leftover *, void *context), void *context)
{
    return noria_gc_folders(NULL, 0, dry_run, each, context);
}

int noria_gc_folders(const char *const *folders, int n_folders, int dry_run,
                     void (*each)(const struct noria_leftover *, void *context), void *context)
{
    struct collection collection = {.dry_run = dry_run != 0, .each = each, .context = context, .folders = folders,
                                    .n_folders = n_folders};
    struct noria_unused_set *sets;
    struct dirent **objects;
    size_t unused;
    int n, rc = check_folders(folders, n_folders);

    if (rc != 0)
        return rc;
    n = scandir(PLACE, &objects, may_be_object, alphasort);
    if (n < 0)
        return noria_fail(-errno, "cannot list " PLACE ": %s", noria_error_words(errno));
    sets = calloc(MOST_SETS, sizeof(*sets)); /* the next gc finds what is beyond */
    unused = sets != NULL ? noria_sysv_semaphore_find_unused(sets, MOST_SETS) : 0;
    rc = noria_backends_with_names(collect_of_backend, &collection);
    if (rc == 0)
        rc = collect_of_backend(&noria_segment_file, &collection);
    for (size_t i = 0; i < unused && rc == 0; i++)
        collect_set(&collection, &sets[i]);
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            collect_object(&collection, objects[i]->d_name);
        free(objects[i]);
    }
    free(sets);
    free(objects);
    free(collection.ids);
    return rc < 0 ? rc : collection.removed;
}
