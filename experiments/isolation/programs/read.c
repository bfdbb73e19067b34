// Print each file named.
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **words) {
    static char buffer[1 << 16];
    for (int i = 1; i < count; i++) {
        int descriptor = open(words[i], O_RDONLY);
        if (descriptor < 0) { perror(words[i]); continue; }
        ssize_t size = read(descriptor, buffer, sizeof buffer);
        if (size > 0) fwrite(buffer, 1, (size_t)size, stdout);
        close(descriptor);
    }
    return 0;
}
