// Two processes, each with a semaphore of shared memory that the other wants; their parent waits for them.
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int is_posted = argc > 1 && !strcmp(argv[1], "posted");
    sem_t *s = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 2; i++) sem_init(&s[i], 1, 1);
    for (int i = 0; i < 2; i++) {
        if (fork()) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sem_wait(&s[i]);
        usleep(300000);
        sem_wait(&s[1 - i]);
        _exit(0);
    }
    if (is_posted && !fork()) { // it may still post
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sleep(100000);
        sem_post(&s[0]);
        _exit(0);
    }
    for (int i = 0; i < 2; i++) wait(0);
    return 0;
}
