// Make as many empty files as possible, N at most: inodes N. Prints how many.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **words) {
    int wanted = count > 1 ? atoi(words[1]) : 0, made = 0;
    mkdir("inodes", 0755);
    for (; made < wanted; made++) {
        char path[64];
        snprintf(path, sizeof path, "inodes/%d", made);
        int file = open(path, O_WRONLY | O_CREAT, 0644);
        if (file < 0) break;
        close(file);
    }
    printf("MADE %d\n", made);
    return 0;
}
