// Idle is the program that runs in the containers of tests.
//
//	idle              waits for SIGTERM
//	idle CODE         exits immediately with this code
//	idle PATH BYTES   writes a file of this size, or removes PATH if BYTES is negative
package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	if len(os.Args) > 2 {
		size, _ := strconv.Atoi(os.Args[2])
		if size < 0 {
			os.RemoveAll(os.Args[1])
		} else if os.WriteFile(os.Args[1], make([]byte, size), 0o644) != nil {
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 {
		code, _ := strconv.Atoi(os.Args[1])
		os.Exit(code)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
}
