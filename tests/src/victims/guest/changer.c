/* A thread calls exec while others rest. */
#include <pthread.h>
#include <unistd.h>
static void *rest(void *arg) { for (;;) pause(); return arg; }
static void *change(void *arg) {
    usleep(300000);
    execl("/bin/sh", "sh", "-c", "sleep 0.5; exit 4", (char *)0);
    return arg;
}
int main(void) {
    pthread_t t;
    for (int i = 0; i < 4; i++) pthread_create(&t, 0, rest, 0);
    pthread_create(&t, 0, change, 0);
    for (;;) pause();
}
