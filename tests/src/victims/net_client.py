# client [--every S] [--timeout S] [--keep] [--pool] [--idle] [--bytes N] ADDRESS,PORT...: one thread for each peer makes connection
# after connection, and (--keep) another one keeps one open and talks over it (--pool: that alone). "A,P+B,P": B if A fails.
# --names ADDRESS: one more asks for a name there, again and again, each time by a new socket, and waits as resolvers do.
import socket, sys, threading, time

args = sys.argv[1:]
every, timeout, keep, pool, idle, size, names = 0.4, 8.0, False, False, False, 1, None
while args and args[0].startswith("--"):
    name = args.pop(0)
    if name == "--every":
        every = float(args.pop(0))
    elif name == "--timeout":
        timeout = float(args.pop(0))
    elif name == "--names":
        names = args.pop(0)
    elif name == "--bytes":
        size = int(args.pop(0))
    elif name == "--keep":
        keep = True
    elif name == "--pool":
        keep = pool = True
    elif name == "--idle":
        idle = True


def where(peer):
    address, port = peer.rsplit(",", 1)
    return address, int(port)


def connect(peer):
    error = None
    for choice in peer.split("+"):
        try:
            return socket.create_connection(where(choice), timeout)
        except OSError as failed:
            error = failed
    raise error


def again_and_again(peer):
    while True:
        try:
            with connect(peer) as stream:
                stream.sendall(b"x")
                stream.recv(1)
        except OSError:
            pass
        time.sleep(every)


def over_one(peer):
    while True:
        try:
            with connect(peer) as stream:
                while True:
                    if idle:
                        time.sleep(1000)
                    stream.sendall(b"x" * size)
                    stream.recv(65536)
                    time.sleep(0.1)
        except OSError:
            time.sleep(every)


def ask_for_names():
    family = socket.AF_INET6 if ":" in names else socket.AF_INET
    while True:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as question:
                question.settimeout(5.0)
                question.connect((names, 53))
                question.send(b"who?")
                question.recv(512)
        except OSError:
            pass
        time.sleep(every)


if names:
    threading.Thread(target=ask_for_names, daemon=True).start()
for peer in args:
    if not pool:
        threading.Thread(target=again_and_again, args=(peer,), daemon=True).start()
    if keep or idle:
        threading.Thread(target=over_one, args=(peer,), daemon=True).start()
time.sleep(600)
