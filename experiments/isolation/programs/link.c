// Plant a link: link symbolic|hard TARGET PATH
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count < 4) return 2;
    if (!strcmp(words[1], "symbolic")) return symlink(words[2], words[3]) ? (perror("symlink"), 1) : 0;
    if (link(words[2], words[3])) return perror("link"), 1;
    char content[4096];
    FILE *file = fopen(words[3], "r");
    if (file) fwrite(content, 1, fread(content, 1, sizeof content, file), stdout);
    return 0;
}
