// Write as much as possible, N files of one MiB at most: disk N. Prints how much.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **words) {
    static char piece[1 << 20];
    int wanted = count > 1 ? atoi(words[1]) : 0, written = 0;
    mkdir("disk", 0755);
    for (; written < wanted; written++) {
        char path[64];
        snprintf(path, sizeof path, "disk/%d", written);
        int file = open(path, O_WRONLY | O_CREAT, 0644);
        if (file < 0 || write(file, piece, sizeof piece) != (ssize_t)sizeof piece) break;
        close(file);
    }
    printf("WRITTEN %d\n", written);
    return 0;
}
