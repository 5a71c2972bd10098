/* Takes 40 MiB and keeps it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) { size_t n = 40 << 20; memset(malloc(n), 1, n); for (;;) pause(); }
