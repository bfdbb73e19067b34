// Send an ICMP echo request and wait for the reply: ping HOST
#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

int main(int count, char **words) {
    if (count < 2) return 2;
    int kinds[] = {SOCK_DGRAM, SOCK_RAW};
    for (int i = 0; i < 2; i++) {
        int link = socket(AF_INET, kinds[i], IPPROTO_ICMP);
        struct timeval limit = {2, 0};
        struct sockaddr_in place = {.sin_family = AF_INET};
        struct icmphdr packet = {.type = ICMP_ECHO, .checksum = htons(0xF7FD), .un.echo = {htons(1), htons(1)}};
        char reply[128];
        inet_pton(AF_INET, words[1], &place.sin_addr);
        setsockopt(link, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        if (link < 0 || sendto(link, &packet, sizeof packet, 0, (struct sockaddr *)&place, sizeof place) < 0 ||
            recv(link, reply, sizeof reply, 0) <= 0)
            perror("ping");
        else
            puts("REPLIED");
    }
    return 0;
}
