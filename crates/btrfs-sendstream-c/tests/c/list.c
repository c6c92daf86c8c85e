/*
 * Lists a send stream read from standard input, by way of the header alone.
 *
 * list [all|end|null|fail MAX]
 */
#include "btrfs-sendstream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state {
    unsigned long calls;
    uint64_t bytes;
    unsigned long failing;
};

static struct state *called(void *user)
{
    struct state *state = user;
    state->calls++;
    return state;
}

static int subvol(const char *path, const uint8_t *uuid, uint64_t ctransid, void *user)
{
    called(user);
    printf("subvol %s %02x%02x %" PRIu64 "\n", path, uuid[0], uuid[15], ctransid);
    return 0;
}

static int snapshot(const char *path, const uint8_t *uuid, uint64_t ctransid,
                    const uint8_t *parent_uuid, uint64_t parent_ctransid, void *user)
{
    called(user);
    printf("snapshot %s %02x%02x %" PRIu64 " of %02x%02x %" PRIu64 "\n", path, uuid[0], uuid[15],
           ctransid, parent_uuid[0], parent_uuid[15], parent_ctransid);
    return 0;
}

static int on_path(const char *path, void *user)
{
    called(user);
    printf("%s\n", path);
    return 0;
}

static int on_mkfile(const char *path, void *user)
{
    struct state *state = called(user);
    printf("mkfile %s\n", path);
    return state->failing ? -EEXIST : 0;
}

static int on_mknod(const char *path, uint64_t mode, uint64_t dev, void *user)
{
    called(user);
    printf("mknod %s %" PRIo64 " %" PRIx64 "\n", path, mode, dev);
    return 0;
}

static int on_two(const char *one, const char *two, void *user)
{
    called(user);
    printf("%s, %s\n", one, two);
    return 0;
}

static int on_write(const char *path, const void *data, uint64_t offset, uint64_t len, void *user)
{
    struct state *state = called(user);
    const unsigned char *byte = data;
    unsigned sum = 0;
    for (uint64_t i = 0; i < len; i++)
        sum += byte[i];
    state->bytes += len;
    printf("write %s %" PRIu64 " %" PRIu64 " %u\n", path, offset, len, sum);
    return 0;
}

static int on_clone(const char *path, uint64_t offset, uint64_t len, const uint8_t *clone_uuid,
                    uint64_t clone_ctransid, const char *clone_path, uint64_t clone_offset,
                    void *user)
{
    called(user);
    printf("clone %s %" PRIu64 " %" PRIu64 " %02x %" PRIu64 " %s %" PRIu64 "\n", path, offset,
           len, clone_uuid[0], clone_ctransid, clone_path, clone_offset);
    return 0;
}

static int on_set_xattr(const char *path, const char *name, const void *data, size_t len,
                        void *user)
{
    called(user);
    printf("set_xattr %s %s %zu %d\n", path, name, len, len ? *(const unsigned char *)data : -1);
    return 0;
}

static int on_number(const char *path, uint64_t number, void *user)
{
    called(user);
    printf("%s %" PRIu64 "\n", path, number);
    return 0;
}

static int on_numbers(const char *path, uint64_t one, uint64_t two, void *user)
{
    called(user);
    printf("%s %" PRIu64 " %" PRIu64 "\n", path, one, two);
    return 0;
}

static int on_utimes(const char *path, const struct bss_timespec *atime,
                     const struct bss_timespec *mtime, const struct bss_timespec *ctime, void *user)
{
    called(user);
    printf("utimes %s %" PRId64 ".%09" PRIu32 " %" PRId64 " %" PRId64 "\n", path, atime->sec,
           atime->nsec, mtime->sec, ctime->sec);
    return 0;
}

static int on_encoded_write(const char *path, const void *data, uint64_t offset, uint64_t len,
                            uint64_t unencoded_file_len, uint64_t unencoded_len,
                            uint64_t unencoded_offset, uint32_t compression, uint32_t encryption,
                            void *user)
{
    called(user)->bytes += unencoded_file_len;
    printf("encoded_write %s %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32
           " %" PRIu32 "\n",
           path, *(const unsigned char *)data, offset, len, unencoded_len, unencoded_offset,
           compression, encryption);
    return 0;
}

static int on_fallocate(const char *path, uint32_t mode, uint64_t offset, uint64_t len, void *user)
{
    called(user);
    printf("fallocate %s %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", path, mode, offset, len);
    return 0;
}

int main(int argc, char **argv)
{
    const struct bss_send_ops all = {
        .subvol = subvol, .snapshot = snapshot, .mkfile = on_mkfile, .mkdir = on_path,
        .mknod = on_mknod, .mkfifo = on_path, .mksock = on_path, .symlink = on_two,
        .rename = on_two, .link = on_two, .unlink = on_path, .rmdir = on_path,
        .write = on_write, .clone = on_clone, .set_xattr = on_set_xattr,
        .remove_xattr = on_two, .truncate = on_number, .chmod = on_number,
        .chown = on_numbers, .utimes = on_utimes, .update_extent = on_numbers,
        .encoded_write = on_encoded_write, .fallocate = on_fallocate, .fileattr = on_number,
    };
    const struct bss_send_ops none = {0};
    const char *mode = argc > 1 ? argv[1] : "all";
    struct state state = {0};
    uint64_t max_errors = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    int ret;

    if (!strcmp(mode, "end")) {
        /* One stream at a time, until there is no more. */
        while ((ret = bss_read_send_stream(0, &all, &state, 1, max_errors)) == 0)
            printf("-- end\n");
    } else if (!strcmp(mode, "null")) {
        ret = bss_read_send_stream(0, &none, NULL, 0, max_errors);
    } else if (!strcmp(mode, "misuse")) {
        if (bss_read_send_stream(-1, &all, &state, 0, 1) != -EBADF ||
            bss_read_send_stream(1000000, &all, &state, 0, 1) != -EBADF ||
            bss_read_send_stream(0, NULL, NULL, 0, 1) != -EFAULT)
            return 9;
        ret = 0;
    } else {
        state.failing = !strcmp(mode, "fail");
        ret = bss_read_send_stream(0, &all, &state, 0, max_errors);
    }
    printf("= %d, %lu calls, %" PRIu64 " bytes\n", ret, state.calls, state.bytes);
    if (ret < 0)
        printf("! %s\n", bss_last_error());
    return 0;
}
