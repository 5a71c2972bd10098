/* Crashes when told to, by itself. */
#include <signal.h>
#include <unistd.h>
static void crash(int unused) { *(volatile int *)8 = unused; }
int main(void) { signal(SIGUSR1, crash); for (;;) pause(); }
