# link [--zombie] PORT [NEXT]: answers 200 if NEXT does (or if there is none), else 503; a zombie never again once NEXT was
# gone. That NEXT was late once, on a busy machine, breaks nobody.
import http.client, http.server, sys

args = sys.argv[1:]
zombie = args[0] == "--zombie" and bool(args.pop(0))
port, below = int(args[0]), int(args[1]) if len(args) > 1 else 0
broken = False


def below_is_well():
    global broken
    if not below:
        return True
    try:
        connection = http.client.HTTPConnection("127.0.0.1", below, timeout=0.7)
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except ConnectionRefusedError:
        broken = zombie
        return False
    except OSError:
        return False


class Link(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_well = below_is_well()
        self.send_response(200 if is_well and not broken else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer(("127.0.0.1", port), Link).serve_forever()
