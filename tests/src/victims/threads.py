"""AB-BA of two Python locks; with `queue` a pool of workers that wait for work."""
import queue
import sys
import threading
import time

first, second = threading.Lock(), threading.Lock()


def take(one, other):
    with one:
        time.sleep(0.3)
        with other:
            pass


if sys.argv[1] == "abba":
    threads = [threading.Thread(target=take, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
else:
    work = queue.Queue()
    for _ in range(4):
        threading.Thread(target=work.get, daemon=True).start()
    time.sleep(100000)
