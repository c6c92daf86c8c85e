/*
 * Does what the tests ask for: drive DIRECTORY WHAT FILE [KEY VALUE]...
 *
 * Prints the name of each event, and what the call returned.
 */
#define _GNU_SOURCE
#include <btrfs-receive.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct brecv *receiver;
static pthread_t caller;
static atomic_int is_created;
/* The event at which the callback stops the receive. */
static const char *stop_at = "";

static int on_event(const char *event, const char *json, void *user)
{
    assert(user == &receiver);
    assert(pthread_equal(caller, pthread_self()));
    assert(json[0] == '{' && json[strlen(json) - 1] == '}');
    printf("- %s\n", event);
    if (strcmp(event, "subvolume_created") == 0)
        is_created = 1;
    if (strcmp(stop_at, "busy") == 0) {
        assert(brecv_write(receiver, "", 0) == BRECV_BUSY);
        assert(brecv_finish(receiver) == BRECV_BUSY);
        assert(brecv_receive_fd(receiver, 0) == BRECV_BUSY);
        assert(brecv_set(receiver, "name", "x") == BRECV_BUSY);
        assert(brecv_on_event(receiver, NULL, NULL) == BRECV_BUSY);
        brecv_free(receiver);
        assert(brecv_last_error(receiver)->code == BRECV_OK);
    }
    return strcmp(event, stop_at) == 0;
}

static void show(enum brecv_code code)
{
    const struct brecv_error *error = brecv_last_error(receiver);

    assert(error->code == code);
    printf("= %d kind=%s errno=%d at=%llu,%llu,%llu operation=%s path=%s\n%s\n", code,
           error->kind, error->os_error, (unsigned long long)error->stream,
           (unsigned long long)error->command, (unsigned long long)error->byte,
           error->operation, error->path, error->message);
    printf("%s\n", brecv_result(receiver));
}

/* Writes pieces of so many bytes, each from memory of its own. */
static enum brecv_code write_file(const char *file, size_t size, int stop)
{
    enum brecv_code code = BRECV_OK;
    FILE *input = fopen(file, "rb");
    size_t len;

    assert(input);
    do {
        char *piece = malloc(size);
        len = fread(piece, 1, size, input);
        if (len > 0)
            code = brecv_write(receiver, piece, len);
        memset(piece, 'x', len);
        free(piece);
    } while (len > 0 && !(stop && code != BRECV_OK));
    fclose(input);
    return code;
}

static enum brecv_code read_file(const char *file)
{
    int fd = open(file, O_RDONLY);
    enum brecv_code code = brecv_receive_fd(receiver, fd);

    assert(fd >= 0 && fcntl(fd, F_GETFD) >= 0);
    close(fd);
    return code;
}

static int ends[2];
static int by_signal;

static void on_signal(int number)
{
    (void)number;
    brecv_cancel(receiver);
}

/* Cancels when everything was read and a subvolume is under construction, so that
 * the receive waits for more. */
static void *cancel(void *arg)
{
    int left;

    do {
        sched_yield();
        assert(ioctl(ends[0], FIONREAD, &left) == 0);
    } while (left > 0 || !is_created);
    if (by_signal)
        pthread_kill(caller, SIGUSR1);
    else
        brecv_cancel(receiver);
    return arg;
}

/* The beginning of the file, and nothing behind it. */
static enum brecv_code read_pipe(const char *file)
{
    char bytes[4096];
    FILE *input = fopen(file, "rb");
    size_t len = fread(bytes, 1, 100, input);
    pthread_t thread;
    enum brecv_code code;

    fclose(input);
    signal(SIGUSR1, on_signal);
    assert(pipe(ends) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    assert(write(ends[1], bytes, len) == (ssize_t)len);
    assert(pthread_create(&thread, NULL, cancel, NULL) == 0);
    code = brecv_receive_fd(receiver, ends[0]);
    pthread_join(thread, NULL);
    return code;
}

/* A whole file, with NUL behind it. */
static char *text_of(const char *file)
{
    FILE *input = fopen(file, "rb");
    char *text = calloc(1, 1 << 20);

    assert(input && fread(text, 1, (1 << 20) - 1, input) > 0);
    fclose(input);
    return text;
}

static void misuse(const char *directory)
{
    struct brecv *other = brecv_new();

    assert(brecv_set(NULL, "name", "x") == BRECV_MISUSE);
    assert(brecv_open(NULL, "/") == BRECV_MISUSE);
    assert(brecv_open_fd(NULL, 0) == BRECV_MISUSE);
    assert(brecv_on_event(NULL, NULL, NULL) == BRECV_MISUSE);
    assert(brecv_receive_fd(NULL, 0) == BRECV_MISUSE);
    assert(brecv_write(NULL, "", 1) == BRECV_MISUSE);
    assert(brecv_finish(NULL) == BRECV_MISUSE);
    assert(brecv_resolve(NULL, "/", "", 0) == BRECV_MISUSE);
    assert(brecv_inventory(NULL, "/") == BRECV_MISUSE);
    assert(brecv_plan(NULL, "/", "") == BRECV_MISUSE);
    assert(brecv_last_error(NULL)->code == BRECV_MISUSE && brecv_result(NULL)[0] == 0);
    assert(strcmp(brecv_last_error(NULL)->message, "the receiver is NULL") == 0);
    brecv_cancel(NULL);
    brecv_free(NULL);

    assert(brecv_last_error(receiver)->code == BRECV_OK);
    assert(strcmp(brecv_result(receiver), "") == 0);
    show(brecv_set(receiver, NULL, "x"));
    show(brecv_set(receiver, "name", NULL));
    show(brecv_set(receiver, "nam", "x"));
    show(brecv_set(receiver, "atomic", "1"));
    show(brecv_resolve(receiver, NULL, "", 0));
    show(brecv_resolve(receiver, directory, NULL, 0));
    show(brecv_inventory(receiver, NULL));
    show(brecv_plan(receiver, NULL, "{}"));
    show(brecv_plan(receiver, directory, NULL));
    show(brecv_write(receiver, "x", 1));
    show(brecv_finish(receiver));
    show(brecv_receive_fd(receiver, 0));
    show(brecv_open(receiver, NULL));
    show(brecv_open(receiver, "/nowhere"));
    show(brecv_open(receiver, "/proc"));
    show(brecv_open_fd(receiver, -1));
    show(brecv_open_fd(receiver, 999));
    show(brecv_open(receiver, directory));
    show(brecv_open(receiver, directory));
    show(brecv_set(receiver, "name", "x"));
    show(brecv_receive_fd(receiver, -1));
    show(brecv_receive_fd(receiver, 999));
    assert(pipe(ends) == 0);
    show(brecv_receive_fd(receiver, ends[1]));
    show(brecv_write(receiver, NULL, 1));
    show(brecv_write(receiver, "x", (size_t)-1));
    show(brecv_write(receiver, NULL, 0));
    show(brecv_receive_fd(receiver, 0));
    show(brecv_on_event(receiver, NULL, NULL));
    show(brecv_finish(receiver));

    /* Freed in the middle of a stream. */
    assert(brecv_open(other, directory) == BRECV_OK);
    assert(brecv_write(other, "btrfs-stream\0", 13) == BRECV_OK);
    brecv_free(other);
}

int main(int argc, char **argv)
{
    const char *directory = argv[1], *what = argv[2], *file = argv[3];
    enum brecv_code code = BRECV_OK;

    assert(argc >= 4 && argc % 2 == 0);
    assert(strcmp(brecv_version(), VERSION) == 0);
    receiver = brecv_new();
    caller = pthread_self();
    if (strcmp(what, "misuse") == 0) {
        misuse(directory);
        brecv_free(receiver);
        return 0;
    }
    if (strcmp(what, "quiet") != 0)
        assert(brecv_on_event(receiver, on_event, &receiver) == BRECV_OK);
    for (int i = 4; i < argc && code == BRECV_OK; i += 2)
        code = brecv_set(receiver, argv[i], argv[i + 1]);
    if (strncmp(what, "resolve:", 8) == 0) {
        show(brecv_resolve(receiver, directory, what + 8, 0));
        brecv_free(receiver);
        return 0;
    } else if (strcmp(what, "inventory") == 0) {
        show(brecv_inventory(receiver, directory));
        brecv_free(receiver);
        return 0;
    } else if (strcmp(what, "plan") == 0) {
        char *text = text_of(file);
        code = brecv_plan(receiver, directory, text);
        free(text);
        show(code);
        brecv_free(receiver);
        return 0;
    }
    if (code == BRECV_OK && strcmp(what, "descriptor") == 0) {
        int fd = open(directory, O_PATH);
        code = brecv_open_fd(receiver, fd);
        assert(close(fd) == 0);
    } else if (code == BRECV_OK) {
        code = brecv_open(receiver, directory);
    }
    if (code != BRECV_OK) {
        show(code);
        brecv_free(receiver);
        return 0;
    }
    if (strncmp(what, "stop:", 5) == 0) {
        stop_at = what + 5;
        code = read_file(file);
    } else if (strncmp(what, "stop-written:", 13) == 0) {
        stop_at = what + 13;
        write_file(file, 1000, 0);
        code = brecv_finish(receiver);
    } else if (strcmp(what, "wait") == 0 || strcmp(what, "signal") == 0) {
        by_signal = strcmp(what, "signal") == 0;
        code = read_pipe(file);
    } else if (strcmp(what, "twice") == 0) {
        show(read_file(file));
        write_file(file, 7, 1);
        show(brecv_finish(receiver));
        show(read_file(file));
        code = brecv_finish(receiver);
    } else if (strcmp(what, "each") == 0) {
        int fd = open(file, O_RDONLY);
        do
            show(code = brecv_receive_fd(receiver, fd));
        while (code == BRECV_OK);
    } else if (strncmp(what, "write:", 6) == 0) {
        code = write_file(file, (size_t)atoi(what + 6), 1);
        if (code == BRECV_OK)
            code = brecv_finish(receiver);
    } else if (strcmp(what, "careless") == 0) {
        write_file(file, 5, 0);
        code = brecv_finish(receiver);
    } else if (strcmp(what, "cancelled") == 0) {
        brecv_cancel(receiver);
        code = read_file(file);
        assert(code == BRECV_CANCELLED && brecv_write(receiver, "x", 1) <= BRECV_CANCELLED);
        assert(brecv_finish(receiver) == BRECV_CANCELLED);
        code = read_file(file);
    } else {
        code = read_file(file);
    }
    show(code);
    brecv_free(receiver);
    return 0;
}
