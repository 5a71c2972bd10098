// Semaphores of System V, by mode. "crosswise": two processes, each with one that the other wants. "workers": two that
// have emptied each other's queue last, and wait for jobs of a third, which has none now. Children die with their parent.
#include <signal.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/wait.h>
#include <unistd.h>

static int set;

static void add(int semaphore, int number) {
    struct sembuf one = {semaphore, number, SEM_UNDO};
    semop(set, &one, 1);
}
static void hold_one_and_want_the_other(int i) {
    add(i, -1);
    usleep(300000);
    add(1 - i, -1);
}
static void work_at_both_queues(int i) {
    usleep(i ? 200000 : 100000); // the first is served before the second comes
    add(i, -1);
    usleep(300000);
    add(1 - i, -1);
}
static void remove_set(int signal) {
    semctl(set, 0, IPC_RMID);
    _exit(signal);
}
static void remove_it_at_the_end() { // it would outlive all of them
    if (fork()) return;
    signal(SIGTERM, remove_set);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (;;) pause();
}

int main(int argc, char **argv) {
    int is_crosswise = argc > 1 && !strcmp(argv[1], "crosswise");
    set = semget(IPC_PRIVATE, 2, 0600);
    remove_it_at_the_end();
    for (int i = 0; i < 2; i++) add(i, 1);
    for (int i = 0; i < 2; i++) {
        if (fork()) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        is_crosswise ? hold_one_and_want_the_other(i) : work_at_both_queues(i);
        _exit(0);
    }
    for (;;) pause();
}
