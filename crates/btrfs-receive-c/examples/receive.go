// Receives the stream on standard input into the directory that is named.
package main

// #include <btrfs-receive.h>
import "C"
import (
	"io"
	"os"
	"unsafe"
)

func main() {
	receiver, buffer := C.brecv_new(), make([]byte, 1<<20)
	code := C.brecv_open(receiver, C.CString(os.Args[1]))
	for count, err := 0, error(nil); code == C.BRECV_OK && err != io.EOF; {
		if count, err = os.Stdin.Read(buffer); count > 0 {
			code = C.brecv_write(receiver, unsafe.Pointer(&buffer[0]), C.size_t(count))
		} else if err == io.EOF {
			code = C.brecv_finish(receiver)
		} else if err != nil {
			panic(err)
		}
	}
	if code != C.BRECV_OK {
		println(C.GoString(C.brecv_last_error(receiver).message))
		os.Exit(1)
	}
	os.Stdout.WriteString(C.GoString(C.brecv_result(receiver)) + "\n")
	C.brecv_free(receiver)
}
