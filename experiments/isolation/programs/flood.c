// Print a GiB.
#include <unistd.h>

int main(void) {
    static char piece[1 << 20];
    for (long rest = 1L << 30; rest > 0;) {
        ssize_t size = write(1, piece, sizeof piece);
        if (size <= 0) return 1;
        rest -= size;
    }
    return 0;
}
