/* Takes 80 MiB after 0.2 s, and keeps it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    usleep(200000);
    for (int i = 0; i < 80; i++) memset(malloc(1 << 20), 1, 1 << 20);
    for (;;) pause();
}
