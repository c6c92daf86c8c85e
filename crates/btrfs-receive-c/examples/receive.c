/* Receives the stream on standard input into the directory that is named. */
#include <btrfs-receive.h>
#include <stdio.h>
#include <string.h>

static int on_event(const char *event, const char *json, void *user)
{
    (void)user;
    if (strcmp(event, "progress") != 0)
        puts(json);
    return 0;
}

int main(int argc, char **argv)
{
    struct brecv *receiver = brecv_new();
    enum brecv_code code = brecv_on_event(receiver, on_event, NULL);

    if (code == BRECV_OK)
        code = brecv_open(receiver, argc > 1 ? argv[1] : ".");
    if (code == BRECV_OK)
        code = brecv_receive_fd(receiver, 0);
    if (code != BRECV_OK)
        fprintf(stderr, "%s\n", brecv_last_error(receiver)->message);
    brecv_free(receiver);
    return code != BRECV_OK;
}
