#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <time.h>
int main(void) {
    for (int i = 0; i < 50; i++) {
        char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return 1;
        memset(p, i, 1 << 20);
        if (p[12345] != (char)i) return 2;
        if (mprotect(p, 4096, PROT_READ)) return 3;
        if (madvise(p + 8192, 4096, MADV_DONTNEED)) return 4;
        if (p[8192] != 0 || p[4096] != (char)i) return 5;
        if (munmap(p, 1 << 20)) return 6;
    }
    char *q[1000];
    for (int i = 0; i < 1000; i++) { q[i] = malloc(1000 + i); memset(q[i], i, 1000 + i); }
    for (int i = 0; i < 1000; i++) { if (q[i][999] != (char)i) return 7; free(q[i]); }
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 1000; i++) clock_gettime(CLOCK_MONOTONIC, &b);
    if (b.tv_sec < a.tv_sec) return 8;
    printf("memory ok\n");
    return 0;
}
