// A TCP server as server.py is one, and a goroutine per connection. `lock` takes two mutexes, every other time in the
// opposite order.
package main

import (
	"bufio"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var locks [2]sync.Mutex
var asked int64

func lock() {
	first := atomic.AddInt64(&asked, 1) % 2
	locks[first].Lock()
	time.Sleep(500 * time.Millisecond)
	locks[1-first].Lock()
}

func serve(connection net.Conn) {
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "lock") {
			lock()
		}
		connection.Write([]byte("done\n"))
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go serve(connection)
	}
}
