// Receives the stream on standard input into the directory that is named.
package main

// #include <btrfs-receive.h>
// #include <stdlib.h>
import "C"
import ("fmt"; "io"; "os"; "unsafe")

func main() {
	receiver, directory := C.brecv_new(), C.CString(os.Args[1])
	code := C.brecv_open(receiver, directory)
	C.free(unsafe.Pointer(directory))
	for buffer := make([]byte, 1<<20); code == C.BRECV_OK; {
		count, err := os.Stdin.Read(buffer)
		if count > 0 {
			code = C.brecv_write(receiver, unsafe.Pointer(&buffer[0]), C.size_t(count))
		} else if err == io.EOF {
			code = C.brecv_finish(receiver)
			break
		} else if err != nil {
			panic(err)
		}
	}
	if code != C.BRECV_OK {
		fmt.Fprintln(os.Stderr, C.GoString(C.brecv_last_error(receiver).message))
		os.Exit(1)
	}
	fmt.Println(C.GoString(C.brecv_result(receiver)))
	C.brecv_free(receiver)
}
