// An HTTP-less server as server.py is one. `lock` sends on a channel, with the lock held that its reader wants.
package main

import (
	"bufio"
	"net"
	"os"
	"strings"
	"sync"
)

var guard sync.RWMutex
var work = make(chan string)

func reader() {
	for range work {
		guard.RLock()
		guard.RUnlock()
	}
}

func serve(connection net.Conn) {
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "lock") {
			guard.Lock()
			work <- lines.Text()
			work <- lines.Text()
			guard.Unlock()
		}
		connection.Write([]byte("done\n"))
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil {
		panic(err)
	}
	go reader()
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go serve(connection)
	}
}
