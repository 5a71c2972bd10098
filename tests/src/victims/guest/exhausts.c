/* Runs out of one thing again and again for some seconds: `fds`, `full DIR`, `healthy`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "healthy";
    char path[512];
    struct rlimit few = {32, 32};
    setrlimit(RLIMIT_NOFILE, &few);
    snprintf(path, sizeof path, "%s/full", argc > 2 ? argv[2] : "/nonexistent");
    int fd = strcmp(what, "full") ? -1 : open(path, O_CREAT | O_WRONLY, 0600);
    for (int i = 0; i < 1500; i++) {
        if (!strcmp(what, "fds")) {
            open("/dev/null", O_RDONLY);
        } else if (!strcmp(what, "full")) {
            for (int j = 0; j < 16; j++) write(fd, path, sizeof path);
        } else {
            /* Its daily bread: nothing there, nothing to read. */
            int pipes[2];
            open("/nonexistent", O_RDONLY);
            pipe2(pipes, O_NONBLOCK);
            read(pipes[0], path, 1);
            close(pipes[0]);
            close(pipes[1]);
        }
        usleep(2000);
    }
    return 0;
}
