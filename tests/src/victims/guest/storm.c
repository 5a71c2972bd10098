/* Makes 4000 processes abort, one after another. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) { for (int i = 0; i < 4000; i++) { if (!fork()) abort(); wait(0); } }
