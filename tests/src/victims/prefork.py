"""A master and four workers that share its listener; each worker serves one connection after the other.

prefork.py PORT
"""
import os, signal, socket, sys, threading

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(16)
master = os.getpid()


def work():
    """lock takes a lock that nobody gives back; everything else is answered at once."""
    lock = threading.Lock()
    lock.acquire()
    while True:
        connection, _ = listener.accept()
        for line in connection.makefile():
            if line.startswith("lock"):
                lock.acquire()
            connection.sendall(b"done\n")


def end_with_master():
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != master:
        os._exit(0)


for _ in range(4):
    if os.fork() == 0:
        end_with_master()
        work()
while True:
    signal.pause()
