// Print the environment and the open regular files of every process in sight.
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int main(void) {
    static char buffer[1 << 16];
    glob_t found;
    glob("/proc/[0-9]*/environ", 0, NULL, &found);
    glob("/proc/[0-9]*/fd/*", GLOB_APPEND, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct stat status;
        if (stat(found.gl_pathv[i], &status) || !S_ISREG(status.st_mode) || status.st_size > 1 << 16) continue;
        int descriptor = open(found.gl_pathv[i], O_RDONLY | O_NONBLOCK);
        if (descriptor < 0) continue;
        ssize_t size = read(descriptor, buffer, sizeof buffer);
        if (size > 0) fwrite(buffer, 1, (size_t)size, stdout);
        close(descriptor);
    }
    return 0;
}
