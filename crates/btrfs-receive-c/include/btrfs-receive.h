/*
 * Applies btrfs send streams to a mounted btrfs.
 *
 * Made by cbindgen from the sources of btrfs-receive-c; a test compares.
 * MIT or Apache-2.0, as you like.
 */

#ifndef BTRFS_RECEIVE_H
#define BTRFS_RECEIVE_H

#include <stddef.h>
#include <stdint.h>

// What a call returns. Later versions may add codes.
enum brecv_code {
  // It succeeded. Of a receive: every subvolume in the input is complete, on
  // disk, marked as received and read-only.
  BRECV_OK = 0,
  // A command of the stream could not be applied, or no subvolume can be the
  // parent or clone source.
  BRECV_FAILED = 1,
  // The stream is damaged, was cut, is of an unknown version, or is none.
  BRECV_STREAM = 2,
  // The input cannot be read.
  BRECV_IO = 3,
  // brecv_cancel was called, or a callback returned another value than 0.
  BRECV_CANCELLED = 4,
  // The destination, or another directory, cannot be opened or used.
  BRECV_OPEN = 5,
  // The caller made a mistake: NULL, an unknown option, a call that is not
  // possible now. Nothing was done.
  BRECV_MISUSE = 6,
  // The receiver is in use, by another thread or by the call whose callback
  // this is. Nothing was done, and brecv_last_error is about an earlier call: only the
  // thread of the call that is under way may use it, because the end of that call
  // changes it.
  BRECV_BUSY = 7,
  // A bug in the library. The receiver can only be freed.
  BRECV_BUG = 8,
};

// Receives streams into one directory.
struct brecv;

// The error of a call. Later versions may add fields at the end.
//
// Strings end with NUL and are never NULL.
struct brecv_error {
  // What the call returned; BRECV_OK if it succeeded.
  enum brecv_code code;
  // errno of the system call that failed; 0 if none did.
  int os_error;
  // Number of the stream in the input, from 1; 0 if the error has no place
  // in the input.
  uint64_t stream;
  // Number of the command in the stream, from 1.
  uint64_t command;
  // Offset in the input, in bytes.
  uint64_t byte;
  // The class of the error in one word: `kind` in docs/json.md; or
  // "cancelled", "open", "misuse", "bug".
  const char *kind;
  // The operation that failed, such as "write"; or "".
  const char *operation;
  // Its path in the stream; or "". It may not be UTF-8.
  const char *path;
  // The whole error in English, with its place. May have several lines.
  const char *message;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Makes a receiver: set its options, then open its destination. Returns NULL
// if there is no descriptor left.
//
// One thread at a time can use a receiver, any thread. Only brecv_cancel can be
// called at any time. Different receivers are independent.
//
// Strings and errors that calls return belong to the receiver, and are valid
// until the next call with it that is not brecv_cancel, brecv_last_error or
// brecv_result.
struct brecv *brecv_new(void);

// Frees a receiver, or does nothing if it is NULL. A receive of a stream that
// was written and not finished is cancelled; its subvolume stays incomplete.
//
// A receiver that is in use is not freed, so that this is no way out of a
// callback.
//
// # Safety
// `receiver` is NULL, or brecv_new returned it, it was not freed, and no other
// thread uses it.
void brecv_free(struct brecv *receiver);

// Sets an option, before the destination is opened. README.md of
// btrfs-receive-c lists the options and their values. Those of which there can
// be several are added.
//
// Returns BRECV_MISUSE if there is no such option, or it cannot have this
// value; the message of the error says which.
//
// # Safety
// `receiver` as above; `key` and `value` are NULL or end with NUL.
enum brecv_code brecv_set(struct brecv *receiver, const char *key, const char *value);

// Calls `callback` for each event of later receives; NULL ends that.
//
// `event` is the name of the event and `json` its line, without a line feed:
// docs/json.md describes them. They are those that `btrfs-recv-rs --json`
// prints, except that there is no advice (`likely`, `to_do`) and no `end`, and
// that `progress` comes with every MiB of input. The last one is `report`. The
// strings are valid until the callback returns.
//
// It is called on the thread that calls brecv_receive_fd, brecv_write or
// brecv_finish, and only during that call. If it returns another value than 0,
// the receive is cancelled; it is still called for what happens until the end.
// What is written is received while the program goes on: events come later
// than they happen, and the receive may have ended before it is cancelled.
//
// Callbacks have to return: no longjmp, and no C++ exception. With this
// receiver, they can call brecv_cancel and nothing else.
//
// # Safety
// `receiver` as above. `callback` is NULL, or can be called with `user` until
// the receiver is freed or has another callback.
enum brecv_code brecv_on_event(struct brecv *receiver, int (*callback)(const char *event,
                                                                       const char *json,
                                                                       void *user), void *user);

// Opens `directory`, which is on a mounted btrfs, as the place where
// subvolumes are created. Starts threads.
//
// Returns BRECV_OPEN if that is impossible. The receiver can be used to open
// another one then.
//
// # Safety
// `receiver` as above; `directory` is NULL or ends with NUL.
enum brecv_code brecv_open(struct brecv *receiver, const char *directory);

// As brecv_open, with a descriptor of the directory, which may be open with
// O_PATH. The descriptor can be closed afterwards.
//
// # Safety
// `receiver` as above; `fd` stays open during the call, or was never open.
enum brecv_code brecv_open_fd(struct brecv *receiver, int fd);

// Receives everything that can be read from `fd`: a pipe, a socket, a file from
// its present offset. The descriptor stays open.
//
// Returns BRECV_OK only if every subvolume in the input is complete, on disk,
// marked as received and read-only. brecv_result returns the report, also of a
// receive that failed. The receiver can be used for the next input then.
//
// # Safety
// `receiver` as above; `fd` stays open during the call, or was never open.
enum brecv_code brecv_receive_fd(struct brecv *receiver, int fd);

// Receives `len` bytes that follow those written before. The first call begins
// a receive, brecv_finish ends it. Waits while there are more than 1 MiB to be
// received. The data can be changed when this returns.
//
// BRECV_OK says that the receive goes on, not that anything is complete. With
// any other code it has ended, as if brecv_receive_fd had returned that; later
// calls return the same until brecv_finish was called.
//
// With the option stop_at_end, what is written behind the first END is
// ignored.
//
// # Safety
// `receiver` as above; `data` points to `len` bytes, or `len` is 0.
enum brecv_code brecv_write(struct brecv *receiver, const void *data, size_t len);

// Says that everything was written, and waits until it is received. Returns
// what brecv_receive_fd would have returned for the same bytes; without
// brecv_write before it, for an empty input.
//
// # Safety
// `receiver` as above.
enum brecv_code brecv_finish(struct brecv *receiver);

// Finds the subvolume for the UUID and the ctransid by which a stream names its
// parent or a clone source, on the filesystem of `directory`, without a
// receive. `uuid` is text with hyphens; `ctransid` is 0 if it is not known. The
// options jail, refuse_writable_sources and clone_source are respected.
//
// Returns BRECV_OK if there is one, and BRECV_FAILED with the kind "no_source" if
// there is none. The result is JSON in either case: `wanted`; `source`, as in
// docs/json.md; `mounted_at`, a path that leads to it, if there is one;
// `candidates`, the first 32 subvolumes that were considered, with `reason`, the
// best first; `exhaustive`, whether all subvolumes were looked at; and
// `missing_capabilities`.
//
// # Safety
// `receiver` as above; `directory` and `uuid` are NULL or end with NUL.
enum brecv_code brecv_resolve(struct brecv *receiver,
                              const char *directory,
                              const char *uuid,
                              uint64_t ctransid);

// Lists the subvolumes of the filesystem of `directory`; with the option jail,
// those below that. The result is the JSON that `btrfs-lineage inventory --json`
// prints.
//
// # Safety
// `receiver` as above; `directory` is NULL or ends with NUL.
enum brecv_code brecv_inventory(struct brecv *receiver, const char *directory);

// Chooses, on the sender, the parent and clone sources for `btrfs send` of
// `snapshot`, a mounted read-only subvolume. `inventory` is the result of
// brecv_inventory on the receiver. The result is the JSON that
// `btrfs-lineage plan --json` prints.
//
// Returns BRECV_OK also if all of the snapshot has to be sent, or the receiver
// has it already; BRECV_FAILED if it cannot be sent.
//
// # Safety
// `receiver` as above; `snapshot` and `inventory` are NULL or end with NUL.
enum brecv_code brecv_plan(struct brecv *receiver, const char *snapshot, const char *inventory);

// Cancels the receive, and every later one of this receiver: they return
// BRECV_CANCELLED. The subvolume that is not complete stays writable and
// without received UUID, or is deleted with on_error=delete.
//
// Can be called from any thread at any time, and in a signal handler.
//
// # Safety
// `receiver` is NULL, or brecv_new returned it and it was not freed.
void brecv_cancel(const struct brecv *receiver);

// Returns the error of the last call with this receiver: its code is BRECV_OK
// if that succeeded. Never NULL: without a receiver, the error says that.
//
// # Safety
// `receiver` is NULL, or brecv_new returned it and it was not freed.
const struct brecv_error *brecv_last_error(const struct brecv *receiver);

// Returns the JSON that the last call gave, on one line: of a receive the
// report, whether it succeeded or not. "" if that call gives none. Never NULL.
//
// # Safety
// `receiver` is NULL, or brecv_new returned it and it was not freed.
const char *brecv_result(const struct brecv *receiver);

// Returns the version of the library, such as "0.1.0".
const char *brecv_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BTRFS_RECEIVE_H */
