/* One of eight threads faults at 0x1230, 50 ms after its start. */
#include <pthread.h>
#include <unistd.h>
static void *fault(void *arg) { usleep(50000); *(volatile int *)0x1230 = 1; return arg; }
static void *rest(void *arg) { for (;;) pause(); return arg; }
int main(void) {
    pthread_t t;
    for (int i = 0; i < 6; i++) pthread_create(&t, 0, rest, 0);
    pthread_create(&t, 0, fault, 0);
    for (;;) pause();
}
