"""A server of one thread, which waits in accept, in read and in write, or in a loop over all connections.

serial.py one|loop ADDRESS [BACKEND]: each is a port, or the path of a unix socket.
"""
import os, select, signal, socket, subprocess, sys, time

mode, address = sys.argv[1], sys.argv[2]
if address.isdigit():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(address)))
else:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address + ".new")
listener.listen(16)
if not address.isdigit():
    # Whoever sees the name may connect.
    os.rename(address + ".new", address)


def connected(address):
    if address.isdigit():
        return socket.create_connection(("127.0.0.1", int(address)))
    backend = socket.socket(socket.AF_UNIX)
    backend.connect(address)
    return backend


def serve(connection):
    """ping is answered at once, slow after two seconds, ask once a backend has answered slow, run once a program has ended; stuck
    never is."""
    line = connection.recv(99)
    if line.startswith(b"stuck"):
        signal.pause()
    if line.startswith(b"slow"):
        time.sleep(2)
    if line.startswith(b"ask"):
        with connected(sys.argv[3]) as backend:
            backend.sendall(b"slow\n")
            backend.recv(99)
    if line.startswith(b"run"):
        subprocess.run(["setpriv", "--pdeathsig", "KILL", "sleep", "300"])
    if line:
        connection.sendall(b"done\n")
    return line


if mode == "one":
    while True:
        connection, _ = listener.accept()
        with connection:
            serve(connection)
connections = []
while True:
    for ready in select.select([listener, *connections], [], [])[0]:
        if ready is listener:
            connections.append(listener.accept()[0])
        elif not serve(ready):
            connections.remove(ready)
            ready.close()
