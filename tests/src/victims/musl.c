// AB-BA of two mutexes of musl, whose words name no owner; with `served` a third thread waits for the network.
#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_barrier_t barrier;

static void *accept_one(void *arg) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    bind(s, (void *)&a, sizeof a);
    listen(s, 16);
    accept(s, 0, 0);
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
    if (argc > 1 && !strcmp(argv[1], "served")) pthread_create(&t[2], 0, accept_one, 0);
    pthread_create(&t[0], 0, take_two, two);
    pthread_create(&t[1], 0, take_two, reversed);
    pthread_join(t[0], 0);
    return 0;
}
