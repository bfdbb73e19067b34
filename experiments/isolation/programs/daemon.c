// Leave a process behind that ignores signals and whose command line holds a word: daemon WORD
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count > 2 && !strcmp(words[2], "stay")) {
        signal(SIGTERM, SIG_IGN); signal(SIGHUP, SIG_IGN); signal(SIGINT, SIG_IGN);
        for (;;) usleep(200000);
    }
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            for (int i = 0; i < 3; i++) close(i);
            execl("/proc/self/exe", words[0], words[1], "stay", (char *)0);
        }
        _exit(0);
    }
    usleep(300000);
    puts("STARTED");
    return 0;
}
