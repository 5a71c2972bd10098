/* Handles a hundred faults, as language runtimes do, and dies of one more. */
#include <setjmp.h>
#include <signal.h>
static sigjmp_buf back;
static void handler(int signal) { siglongjmp(back, signal); }
int main(void) {
    signal(SIGSEGV, handler);
    for (volatile int i = 0; i < 100; i++)
        if (!sigsetjmp(back, 1)) *(volatile int *)0x20 = 1;
    signal(SIGSEGV, SIG_DFL);
    *(volatile int *)0x40 = 1;
}
