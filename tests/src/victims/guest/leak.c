/* Takes 35 MiB more after 0.7 s, one by one. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    usleep(700000);
    for (int i = 0; i < 35; i++) { memset(malloc(1 << 20), 1, 1 << 20); usleep(2000); }
    for (;;) pause();
}
