// Write a file's own content back to it, and say so if the kernel took it.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **words) {
    char content[4096];
    for (int i = 1; i < count; i++) {
        int in = open(words[i], O_RDONLY);
        ssize_t size = in < 0 ? -1 : read(in, content, sizeof content);
        int out = open(words[i], O_WRONLY);
        if (size <= 0 || out < 0 || write(out, content, (size_t)size) != size) perror(words[i]);
        else printf("REWRITTEN %s\n", words[i]);
    }
    return 0;
}
