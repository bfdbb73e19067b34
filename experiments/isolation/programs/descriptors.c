// Open as many descriptors as possible, N at most: descriptors N. Prints how many.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int main(int count, char **words) {
    int wanted = count > 1 ? atoi(words[1]) : 0, opened = 0;
    struct rlimit limit = {(rlim_t)wanted + 16, (rlim_t)wanted + 16};
    setrlimit(RLIMIT_NOFILE, &limit);
    while (opened < wanted && open("/dev/null", O_RDONLY) >= 0) opened++;
    printf("OPENED %d\n", opened);
    return 0;
}
