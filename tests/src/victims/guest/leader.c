/* The leader leaves; a thread ends the process with 5 after 0.7 s. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
static void *work(void *arg) { usleep(700000); exit(5); return arg; }
int main(void) { pthread_t t; pthread_create(&t, 0, work, 0); pthread_exit(0); }
