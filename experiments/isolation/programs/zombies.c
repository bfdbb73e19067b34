// Leave children behind that have ended and that nobody waits for, named by a word: zombies WORD
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 2) return 2;
    if (fork() == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        prctl(PR_SET_NAME, words[1]);
        for (int i = 0; i < 40; i++) if (fork() == 0) _exit(0);
        for (int i = 0; i < 3; i++) close(i);
        sleep(60);
        _exit(0);
    }
    usleep(300000);
    return 0;
}
