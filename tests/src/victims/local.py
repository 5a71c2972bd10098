# local SOCKET [PORT]: answers at the unix socket; with PORT over HTTP instead, 200 if somebody answers at the socket, else 503.
import http.server, os, socket, sys

path = sys.argv[1]


class Client(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            with socket.socket(socket.AF_UNIX) as stream:
                stream.settimeout(0.5)
                stream.connect(path)
                status = 200 if stream.recv(1) else 503
        except OSError:
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if len(sys.argv) > 2:
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Client).serve_forever()
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
while True:
    with listener.accept()[0] as peer:
        peer.sendall(b"x")
