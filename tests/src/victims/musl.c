// AB-BA of two mutexes of musl, whose words name no owner. With `transfer` nobody is stuck: two wait behind a slow
// holder, and the second of them has the address of its lock as an argument.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_barrier_t barrier;

static struct {
    long other[8];
    pthread_mutex_t one, two;
} *accounts;

static void *audit(void *arg) {
    pthread_mutex_lock(&accounts->two);
    for (;;) usleep(arg ? 30000 : 10000000);
}
static void *transfer(void *arg) {
    pthread_mutex_t *from = &accounts->one, *volatile to = &accounts->two;
    pthread_mutex_lock(from);
    pthread_mutex_lock(to);
    return arg;
}
static void *take_two(void *arg) {
    pthread_mutex_t **two = arg;
    pthread_mutex_lock(two[0]);
    pthread_barrier_wait(&barrier);
    pthread_mutex_lock(two[1]);
    return 0;
}

int main(int argc, char **argv) {
    pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, other = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_t *two[] = {&one, &other}, *reversed[] = {&other, &one};
    pthread_t t[3];
    pthread_barrier_init(&barrier, 0, 2);
    if (strcmp(argv[1], "alone")) {
        accounts = calloc(1, sizeof *accounts);
        pthread_create(&t[2], 0, audit, strcmp(argv[1], "transfer") ? argv : 0);
        for (int i = 0; i < 2; i++) {
            usleep(100000);
            pthread_create(&t[i], 0, transfer, 0);
        }
        pthread_join(t[2], 0);
    }
    pthread_create(&t[0], 0, take_two, two);
    pthread_create(&t[1], 0, take_two, reversed);
    pthread_join(t[0], 0);
    return 0;
}
