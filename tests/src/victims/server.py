"""A TCP server that answers one line with one line, and goes wrong in a chosen way.

server.py MODE PORT: healthy | full | deadlock | spin | longpoll | burn | work
"""
import select, socket, sys, threading, time

mode, port = sys.argv[1], int(sys.argv[2])
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", port))
listener.listen(1 if mode == "full" else 16)
lock = threading.Lock()


def serve(connection):
    """ping is answered at once; lock takes the lock that nobody gives back; slow is answered after 20 s."""
    for line in connection.makefile():
        if line.startswith("lock"):
            with lock:
                pass
        if line.startswith("slow"):
            time.sleep(20)
        if line.startswith("work"):
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass
        connection.sendall(b"done\n")


if mode == "full":
    threading.Event().wait()
if mode == "deadlock":
    lock.acquire()
if mode == "burn":
    while True:
        pass
if mode == "spin":
    # Level-triggered, and the handler never reads.
    first, _ = listener.accept()
    poll = select.epoll()
    poll.register(first, select.EPOLLIN)
    while True:
        poll.poll()
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
