/*
 * resolve DIRECTORY: lists the subvolumes of a filesystem.
 * resolve DIRECTORY UUID [CTRANSID]: finds the parent that a stream names.
 */
#include <btrfs-receive.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct brecv *receiver = brecv_new();
    enum brecv_code code = BRECV_MISUSE;

    if (argc == 2)
        code = brecv_inventory(receiver, argv[1]);
    else if (argc > 2)
        code = brecv_resolve(receiver, argv[1], argv[2], argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    puts(brecv_result(receiver));
    if (code != BRECV_OK)
        fprintf(stderr, "%s\n", brecv_last_error(receiver)->message);
    brecv_free(receiver);
    return code != BRECV_OK;
}
