// Kill the processes named by their host ids.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    for (int i = 1; i < count; i++) if (kill(atoi(words[i]), SIGKILL)) perror("kill");
    return 0;
}
