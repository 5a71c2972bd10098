// Writes to a file for ever, with a lock that another wants: MODE FILE LOCK. Children die with their parent.
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int file;

static void *write_on(void *arg) {
    pthread_mutex_lock(&mutex);
    for (;;) {
        if (pwrite(file, "x", 1, 0) != 1) _exit(1);
        usleep(100000);
    }
    return arg;
}
static void *want(void *arg) {
    usleep(50000);
    pthread_mutex_lock(&mutex);
    return arg;
}
static void want_flock(const char *lock) { // forked before its parent has it: an open file of its own, and no other
    if (fork()) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    usleep(50000);
    flock(open(lock, O_RDWR | O_CREAT, 0600), LOCK_EX);
    _exit(0);
}

int main(int argc, char **argv) {
    const char *mode = argv[1];
    if (!strcmp(mode, "create")) { // by name, again and again
        for (;;) {
            int made = open(argv[2], O_WRONLY | O_CREAT, 0600);
            if (made < 0) return 1;
            close(made), usleep(50000), unlink(argv[2]), usleep(50000);
        }
    }
    file = open(argv[2], O_WRONLY | O_CREAT, 0600);
    if (file < 0) return 1;
    if (!strcmp(mode, "flock")) {
        want_flock(argv[3]);
        flock(open(argv[3], O_RDWR | O_CREAT, 0600), LOCK_EX);
        write_on(0);
    }
    pthread_t threads[2];
    pthread_create(&threads[0], 0, write_on, 0);
    pthread_create(&threads[1], 0, want, 0);
    pthread_join(threads[0], 0);
    return argc;
}
