/* Well until SIGUSR1; then as its argument says: `stuck` (two locks crosswise), `turns` (the same locks in one order),
   `leak` (192 MiB, then 2 MiB a second), `steady` (192 MiB, kept). */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static int is_crosswise;
static void *other(void *arg) {
    for (;;) {
        pthread_mutex_t *first = is_crosswise ? &b : &a, *second = is_crosswise ? &a : &b;
        pthread_mutex_lock(first);
        usleep(200000);
        pthread_mutex_lock(second);
        pthread_mutex_unlock(second);
        pthread_mutex_unlock(first);
        usleep(50000);
    }
    return arg;
}
static void locks(void) {
    pthread_t thread;
    pthread_create(&thread, 0, other, 0);
    for (;;) {
        pthread_mutex_lock(&a);
        usleep(200000);
        pthread_mutex_lock(&b);
        pthread_mutex_unlock(&b);
        pthread_mutex_unlock(&a);
        usleep(50000);
    }
}
static void take(int mib) { memset(malloc((size_t)mib << 20), 1, (size_t)mib << 20); }
int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "";
    sigset_t wanted;
    int got;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &wanted, 0);
    sigwait(&wanted, &got);
    is_crosswise = !strcmp(how, "stuck");
    if (is_crosswise || !strcmp(how, "turns")) locks();
    take(192);
    /* Bounded, also where no limit holds it. */
    for (int i = 0; i < 100 && !strcmp(how, "leak"); i++) { usleep(500000); take(1); }
    for (;;) pause();
}
