// Append a word to each file named: write WORD PATH...
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words) {
    for (int i = 2; i < count; i++) {
        int descriptor = open(words[i], O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (descriptor < 0 || write(descriptor, words[1], strlen(words[1])) < 0) perror(words[i]);
    }
    return 0;
}
