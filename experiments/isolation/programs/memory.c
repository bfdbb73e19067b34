// Hold as much memory as possible, N MiB at most: memory N. Prints how much, again and again.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **words) {
    int wanted = count > 1 ? atoi(words[1]) : 0;
    for (int i = 1; i <= wanted; i++) {
        char *piece = malloc(1 << 20);
        if (!piece) break;
        memset(piece, i, 1 << 20);
        if (i % 16 == 0) { printf("TOUCHED %d\n", i); fflush(stdout); }
    }
    return 0;
}
