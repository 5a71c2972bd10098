# echo [--delay S] [--full] [--names] PORT ADDRESS...: answers each byte with one; a thread for each connection.
# --names: datagrams to port 53 as well, after the same delay.
import signal, socket, sys, threading, time

args = sys.argv[1:]
delay, backlog, accepts, names = 0.0, 128, True, False  # --full: a short queue; SIGUSR1: nobody is accepted any more
while args and args[0].startswith("--"):
    name = args.pop(0)
    if name == "--delay":
        delay = float(args.pop(0))
    elif name == "--full":
        backlog = 1
    elif name == "--names":
        names = True
port, addresses = int(args[0]), args[1:]


def talk(peer):
    with peer:
        while True:
            try:
                data = peer.recv(65536)
                if not data:
                    return
                time.sleep(delay)
                peer.sendall(data[:1])
            except OSError:
                return


def serve(listener):
    while True:
        try:
            peer, _ = listener.accept()
            while not accepts:
                time.sleep(1)
        except OSError:
            return
        threading.Thread(target=talk, args=(peer,), daemon=True).start()


def serve_names(listener):
    while True:
        data, peer = listener.recvfrom(512)
        threading.Timer(delay, listener.sendto, (data, peer)).start()


for address in addresses:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if names:
        listener = socket.socket(family, socket.SOCK_DGRAM)
        listener.bind((address, 53))
        threading.Thread(target=serve_names, args=(listener,), daemon=True).start()
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(backlog)
    threading.Thread(target=serve, args=(listener,), daemon=True).start()


def stop_accepting(*_):
    global accepts
    accepts = False


signal.signal(signal.SIGUSR1, stop_accepting)
print("listens", flush=True)
while True:
    signal.pause()
