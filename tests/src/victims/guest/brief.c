/* Ends well after 0.3 s. */
#include <unistd.h>
int main(void) { usleep(300000); return 0; }
