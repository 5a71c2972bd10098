// Asks the server on this port of loopback for a byte, again and again; patient for two and a half seconds.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
static void ask(int port) {
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct pollfd made = { .fd = fd, .events = POLLOUT }, told = { .fd = fd, .events = POLLIN };
    char byte = 'x';
    if ((connect(fd, (struct sockaddr *)&at, sizeof at) == 0 || errno == EINPROGRESS) && poll(&made, 1, 2500) == 1 &&
        write(fd, &byte, 1) == 1 && poll(&told, 1, 2500) == 1)
        byte = read(fd, &byte, 1);
    close(fd);
}
int main(int argc, char **argv) {
    for (;;) { ask(atoi(argv[1])); usleep(100000); }
}
