// Two threads that lock each other out after a while and write down when; once that file is there it is healthy.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t m[2] = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};
static pthread_barrier_t barrier;
static const char *file;

static void stamp(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    FILE *out = fopen(file, "w");
    fprintf(out, "%lld", now.tv_sec * 1000000000LL + now.tv_nsec);
    fclose(out);
}
static void *take_two(void *arg) {
    long i = (long)arg;
    pthread_mutex_lock(&m[i]);
    pthread_barrier_wait(&barrier);
    if (i) stamp();
    pthread_mutex_lock(&m[1 - i]);
    return arg;
}

int main(int argc, char **argv) {
    pthread_t t[2];
    file = argv[1];
    if (!access(file, F_OK)) for (;;) pause();
    usleep(atoi(argv[2]) * 1000);
    pthread_barrier_init(&barrier, 0, 2);
    for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, take_two, (void *)i);
    for (;;) pause();
}
