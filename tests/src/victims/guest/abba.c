/* Two threads take two locks in opposite order; with an argument in the same order, and the first keeps them. */
#include <pthread.h>
#include <unistd.h>
static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static int is_well;
static void *other(void *arg) {
    usleep(100000);
    pthread_mutex_lock(is_well ? &a : &b);
    usleep(300000);
    pthread_mutex_lock(is_well ? &b : &a);
    return arg;
}
int main(int argc, char **argv) {
    pthread_t thread;
    is_well = argc > 1;
    pthread_mutex_lock(&a);
    pthread_create(&thread, 0, other, 0);
    usleep(300000);
    if (is_well) for (;;) usleep(100000);
    pthread_mutex_lock(&b);
    return 0;
}
