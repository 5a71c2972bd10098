// One victim a mode: real locks, really stuck. Children die with their parent.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t m[8];
static pthread_rwlock_t rw[2] = {PTHREAD_RWLOCK_INITIALIZER, PTHREAD_RWLOCK_INITIALIZER};
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_t t[16];
static int count = 2, ready;
static char block[1 << 20];

static void *take_two(void *arg) {
    long i = (long)arg;
    pthread_mutex_lock(&m[i]);
    pthread_barrier_wait(&barrier);
    pthread_mutex_lock(&m[(i + 1) % count]);
    return 0;
}
static void *write_two(void *arg) {
    long i = (long)arg;
    pthread_rwlock_wrlock(&rw[i]);
    pthread_barrier_wait(&barrier);
    pthread_rwlock_wrlock(&rw[1 - i]);
    return 0;
}
static void *upgrade(void *arg) { // both read, and want to write
    pthread_rwlock_rdlock(&rw[0]);
    pthread_barrier_wait(&barrier);
    pthread_rwlock_wrlock(&rw[0]);
    return arg;
}
static void fill(int s) {
    for (;;) if (send(s, block, sizeof block, 0) < 0) return;
}
static void *work(void *arg) {
    pthread_mutex_lock(&m[0]);
    while (!ready) pthread_cond_wait(&cond, &m[0]);
    pthread_mutex_unlock(&m[0]);
    return arg;
}
static void *wait_behind(void *arg) {
    pthread_mutex_lock(&m[0]);
    pthread_mutex_lock(&m[1]);
    return arg;
}
static void *sleep_with_it(void *arg) {
    pthread_mutex_lock(&m[0]);
    sleep(100000);
    return arg;
}
static int stuck_page(char **page) { // userfaultfd: whoever touches the page waits for ever
    int u = syscall(SYS_userfaultfd, O_CLOEXEC);
    struct uffdio_api api = {.api = UFFD_API};
    *page = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register at = {.range = {(unsigned long)*page, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    return u < 0 || ioctl(u, UFFDIO_API, &api) || ioctl(u, UFFDIO_REGISTER, &at);
}
static void *spin_with_it(void *arg) {
    pthread_mutex_lock(&m[0]);
    for (;;) ready++;
    return arg;
}
static void *receive_with_it(void *arg) { // a client whose server says nothing
    int l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t size = sizeof a;
    bind(l, (void *)&a, size);
    listen(l, 1);
    getsockname(l, (void *)&a, &size);
    connect(s, (void *)&a, size);
    pthread_mutex_lock(&m[0]);
    recv(s, block, 1, 0);
    return arg;
}
static pid_t child(void);
static void *vfork_with_it(void *arg) { // uninterruptibly, until one of its children has made way
    pthread_mutex_lock(&m[0]);
    if (!child()) for (;;) pause();
    if (!vfork()) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sleep(100000);
        _exit(0);
    }
    return arg;
}
static void *leave_with_it(void *arg) {
    pthread_mutex_lock(&m[0]);
    return arg;
}
static void *tick(void *arg) {
    for (;;) usleep(50000);
    return arg;
}
static void *contend(void *arg) {
    for (;;) {
        pthread_mutex_lock(&m[0]);
        usleep(200);
        pthread_mutex_unlock(&m[0]);
    }
    return arg;
}
static void *hand_over(void *arg) {
    for (;;) {
        pthread_mutex_lock(&m[0]);
        usleep(300000);
        pthread_mutex_unlock(&m[0]);
        usleep(1000);
    }
    return arg;
}
static void many(int n, void *(*run)(void *)) {
    for (long i = 0; i < n; i++) pthread_create(&t[i], 0, run, (void *)i);
}
static void cycle(int n, int kind) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    if (kind == 'p') pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
    if (kind == 'r') pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    if (kind == 'o') pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    count = n;
    pthread_barrier_init(&barrier, 0, n);
    for (int i = 0; i < n; i++) pthread_mutex_init(&m[i], &attr);
    many(n, take_two);
}
static pid_t child(void) {
    pid_t parent = getpid(), pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
    }
    return pid;
}
static void seize_all(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *e; tasks && (e = readdir(tasks));) {
        int tid = atoi(e->d_name);
        if (tid && !ptrace(PTRACE_SEIZE, tid, 0, 0)) ptrace(PTRACE_INTERRUPT, tid, 0, 0);
    }
}
static int file(const char *dir, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return open(path, O_RDWR | O_CREAT, 0600);
}
static void listen_on(int s) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    bind(s, (void *)&a, sizeof a);
    listen(s, 16);
}
static void *nothing(void *arg) { return arg; }
static void on_signal(int s) { ready = s; }
static void allocate(int s) { free(malloc(5000 + s)); } // no cache of its own thread has as much

int main(int argc, char **argv) {
    const char *mode = argv[1], *dir = argc > 2 ? argv[2] : ".";
    prctl(PR_SET_NAME, mode);
    pthread_barrier_init(&barrier, 0, 2);
#define IS(name) (!strcmp(mode, name))
    if (IS("abba")) cycle(2, 0);
    else if (IS("abba_live")) { cycle(2, 0); pthread_create(&t[9], 0, tick, 0); }
    else if (IS("three")) cycle(3, 0);
    else if (IS("pi")) { cycle(2, 'p'); }
    else if (IS("recursive")) cycle(2, 'r');
    else if (IS("robust")) cycle(2, 'o');
    else if (IS("self")) { pthread_create(&t[9], 0, tick, 0); pthread_mutex_lock(&m[0]); pthread_mutex_lock(&m[0]); }
    else if (IS("rwlock")) many(2, write_two);
    else if (IS("orphan")) {
        pthread_create(&t[9], 0, tick, 0);
        pthread_create(&t[0], 0, leave_with_it, 0);
        pthread_join(t[0], 0);
        pthread_mutex_lock(&m[0]);
    } else if (IS("shared") || IS("shared_live")) { // with live a thread of each process goes on
        pthread_mutex_t *s = mmap(0, 8192, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pthread_mutexattr_t attr;
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, 1);
        pthread_mutex_init(&s[0], &attr);
        pthread_mutex_init(&s[10], &attr);
        int first = child() ? 0 : 10;
        if (IS("shared_live")) pthread_create(&t[9], 0, tick, 0);
        pthread_mutex_lock(&s[first]);
        usleep(300000);
        pthread_mutex_lock(&s[10 - first]);
    } else if (IS("pipes")) {
        int a[2], b[2];
        if (pipe(a) || pipe(b)) return 1;
        int in_parent = child() != 0;
        int *to = in_parent ? a : b;
        return write(to[1], block, sizeof block) < 0;
    } else if (IS("pipe_self")) {
        int a[2];
        if (pipe(a)) return 1;
        return write(a[1], block, sizeof block) < 0;
    } else if (IS("flock")) {
        int in_parent = child() != 0;
        int a = file(dir, in_parent ? "flock_a" : "flock_b"), b = file(dir, in_parent ? "flock_b" : "flock_a");
        flock(a, LOCK_EX);
        usleep(300000);
        flock(b, LOCK_EX);
    } else if (IS("ofd")) {
        int in_parent = child() != 0;
        int a = file(dir, in_parent ? "ofd_a" : "ofd_b"), b = file(dir, in_parent ? "ofd_b" : "ofd_a");
        struct flock f = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        fcntl(a, F_OFD_SETLKW, &f);
        usleep(300000);
        fcntl(b, F_OFD_SETLKW, &f);
    } else if (IS("flock_pipe")) { // the parent holds the lock and writes to the child, which waits for the lock
        int p[2];
        if (pipe(p)) return 1;
        int a = file(dir, "mixed");
        flock(a, LOCK_EX);
        if (!child()) {
            close(a);
            close(p[1]);
            flock(file(dir, "mixed"), LOCK_EX);
            return read(p[0], block, 1) < 0;
        }
        close(p[0]);
        return write(p[1], block, sizeof block) < 0;
    } else if (IS("upgrade")) many(2, upgrade);
    else if (IS("unix")) { // each fills the other's socket, and nobody reads
        int s[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return 1;
        int in_parent = child() != 0;
        close(s[in_parent]);
        fill(s[!in_parent]);
    } else if (IS("unix_self")) {
        int s[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s)) return 1;
        for (;;) if (send(s[0], block, 4096, 0) < 0) return 1;
    } else if (IS("unix_flock")) { // the parent holds the lock and waits for an answer, its child for the lock
        int s[2];
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return 1;
        int a = file(dir, "asked");
        flock(a, LOCK_EX);
        int in_parent = child() != 0;
        close(s[in_parent]);
        if (in_parent) return recv(s[0], block, 1, 0) < 0;
        close(a);
        flock(file(dir, "asked"), LOCK_EX);
        return 0;
    } else if (IS("lost_wakeup")) {
        pthread_cond_signal(&cond);
        many(1, work);
    }
    // From here on nobody is stuck for ever.
    else if (IS("convoy") || IS("behind_runner") || IS("behind_network") || IS("behind_vfork")) {
        void *(*holder)(void *) = IS("behind_runner") ? spin_with_it
            : IS("behind_network") ? receive_with_it : IS("behind_vfork") ? vfork_with_it : sleep_with_it;
        pthread_create(&t[0], 0, holder, 0);
        usleep(100000);
        pthread_create(&t[1], 0, wait_behind, 0);
        pthread_create(&t[2], 0, wait_behind, 0);
    } else if (IS("pool")) {
        many(8, work);
        int s = socket(AF_INET, SOCK_STREAM, 0);
        listen_on(s);
        accept(s, 0, 0);
    }
    else if (IS("sigwait")) {
        many(4, work);
        sigset_t set;
        int got;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &set, 0);
        sigwait(&set, &got);
    } else if (IS("handler")) { // waits for a handler to post: parked, but not for ever
        sem_t s;
        signal(SIGTERM, on_signal);
        sem_init(&s, 0, 0);
        many(2, work);
        sem_wait(&s);
    } else if (IS("number")) { // waits for a number as for a lock, until a handler stores another
        ready = 2;
        signal(SIGTERM, on_signal);
        while (ready == 2) syscall(SYS_futex, &ready, FUTEX_WAIT_PRIVATE, 2, 0, 0, 0);
        return 0;
    } else if (IS("malloc_handler")) { // a handler takes malloc's lock while its own thread holds it
        many(1, nothing);
        pthread_join(t[0], 0); // before, there is no lock
        signal(SIGUSR1, allocate);
        if (!child()) for (;;) kill(getppid(), SIGUSR1), usleep(1000);
        for (;;) allocate(0);
    } else if (IS("epoll")) {
        int s = socket(AF_INET, SOCK_STREAM, 0), e = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        listen_on(s);
        epoll_ctl(e, EPOLL_CTL_ADD, s, &event);
        epoll_wait(e, &event, 1, -1);
    } else if (IS("accept")) {
        int s = socket(AF_INET, SOCK_STREAM, 0);
        listen_on(s);
        accept(s, 0, 0);
    } else if (IS("timed")) {
        struct timespec until;
        many(2, work);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 100000;
        pthread_mutex_lock(&m[1]);
        pthread_cond_timedwait(&cond, &m[1], &until);
    } else if (IS("stopped")) {
        raise(SIGSTOP);
    } else if (IS("stopped_holder")) { // the child waits for a lock whose holder is stopped
        int a = file(dir, "held");
        flock(a, LOCK_EX);
        if (!child()) {
            close(a);
            flock(file(dir, "held"), LOCK_EX);
            return 0;
        }
        raise(SIGSTOP);
    } else if (IS("traced")) { // a debugger stops a deadlocked child
        pid_t pid = child();
        if (!pid) {
            cycle(2, 0);
            pthread_join(t[0], 0);
        }
        usleep(300000);
        seize_all(pid);
    } else if (IS("vfork")) {
        if (!vfork()) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            sleep(100000);
            _exit(0);
        }
    } else if (IS("contended")) many(4, contend);
    else if (IS("slow_hand_over")) many(3, hand_over);
    else if (IS("self_pipe")) { // sleeps until a handler writes to its own pipe
        int a[2];
        signal(SIGTERM, on_signal);
        if (pipe(a)) return 1;
        return read(a[0], block, 1) < 0;
    } else if (IS("unix_timeout")) { // the wait is long, but it ends
        int s[2];
        struct timeval limit = {.tv_sec = 100000};
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return 1;
        setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        fill(s[0]);
    } else if (IS("unix_served")) { // the reader of a socket whose writer waits for the network
        int s[2], l = socket(AF_INET, SOCK_STREAM, 0);
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) return 1;
        if (!child()) {
            close(s[1]);
            return recv(s[0], block, 1, 0) < 0;
        }
        close(s[0]);
        listen_on(l);
        accept(l, 0, 0);
    } else if (IS("inode_lock") || IS("inode_waiter")) {
        // One holds an inode's lock until its page comes (userfaultfd), which it never does; the other wants the lock.
        int in_parent = child() != 0;
        if (in_parent == IS("inode_waiter")) {
            usleep(300000);
            return write(file(dir, "locked"), "x", 1) < 0;
        }
        char *page;
        int f = file(dir, "locked");
        return stuck_page(&page) || write(f, page, 4096) < 0;
    } else if (IS("pipeline")) { // the reader of a pipe whose writer reads something else
        int a[2], s = socket(AF_INET, SOCK_STREAM, 0);
        if (pipe(a)) return 1;
        if (!child()) {
            close(a[1]);
            return read(a[0], block, 1) < 0;
        }
        close(a[0]);
        listen_on(s);
        accept(s, 0, 0);
    } else return 2;
    if (IS("abba_live") || IS("contended") || IS("slow_hand_over") || IS("pool")) for (;;) pause();
    for (int i = 0; i < 16; i++) if (t[i]) pthread_join(t[i], 0);
    for (;;) pause();
}
