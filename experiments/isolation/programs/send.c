// Send a word: send tcp|udp|unix HOST PORT WORD. Prints what comes back.
#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 5) return 2;
    int local = !strcmp(words[1], "unix"), stream = strcmp(words[1], "udp") != 0, failed;
    int link = socket(local ? AF_UNIX : AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0);
    struct timeval limit = {3, 0};
    setsockopt(link, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(link, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (local) {
        struct sockaddr_un place = {.sun_family = AF_UNIX};
        strncpy(place.sun_path + 1, words[2], sizeof place.sun_path - 2);
        failed = connect(link, (struct sockaddr *)&place,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(words[2])));
    } else {
        struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[3]))};
        inet_pton(AF_INET, words[2], &place.sin_addr);
        failed = connect(link, (struct sockaddr *)&place, sizeof place);
    }
    if (failed || write(link, words[4], strlen(words[4])) < 0) return perror("send"), 1;
    char reply[64];
    ssize_t size = read(link, reply, sizeof reply);
    if (size > 0) fwrite(reply, 1, (size_t)size, stdout);
    return 0;
}
