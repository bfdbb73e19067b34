// Have as many children as possible at one time, N at most: fork N. Prints how many there were.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words) {
    int wanted = count > 1 ? atoi(words[1]) : 0, have = 0;
    pid_t *children = calloc((size_t)wanted + 1, sizeof *children);
    for (; have < wanted; have++) {
        pid_t child = fork();
        if (child < 0) break;
        if (child == 0) { sleep(20); _exit(0); }
        children[have] = child;
    }
    printf("ALIVE %d\n", have);
    for (int i = 0; i < have; i++) kill(children[i], SIGKILL);
    return 0;
}
