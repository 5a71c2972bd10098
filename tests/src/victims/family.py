"""One family a mode: processes of the multiprocessing and subprocess modules."""
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time


def take(one, other):
    with one:
        time.sleep(0.3)
        with other:
            pass


def hold(lock):
    with lock:
        time.sleep(100000)


def end_with_parent(parent):
    """A pool makes new workers while it is ended: nobody knows of them (PR_SET_PDEATHSIG, prctl(2))."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def main(mode):
    first, second = multiprocessing.Lock(), multiprocessing.Lock()
    if mode == "locks":
        pairs = ((first, second), (second, first))
        children = [multiprocessing.Process(target=take, args=pair) for pair in pairs]
    elif mode == "popen":
        line = [sys.executable, "-c", "import sys; sys.stdout.write('x' * 1000000)"]
        subprocess.Popen(line, stdout=subprocess.PIPE).wait()
        return
    elif mode == "queue":  # ends when its queue is read, and nobody reads it
        queue = multiprocessing.Queue()
        children = [multiprocessing.Process(target=queue.put, args=("x" * 1000000,))]
    elif mode == "held":
        children = [multiprocessing.Process(target=hold, args=(first,)) for _ in range(3)]
    elif mode == "pool":
        pool = multiprocessing.Pool(3, end_with_parent, (os.getpid(),))
        pool.apply_async(time.sleep, (100000,)).wait()
        return
    for child in children:
        child.start()
    for child in children:
        child.join()


if __name__ == "__main__":
    main(sys.argv[1])
