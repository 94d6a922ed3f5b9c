#include <stdio.h>
#include <unistd.h>
#include <stdlib.h>
#include <sys/wait.h>
volatile int shared = 1;
int main(int argc, char **argv) {
    int lenient = argc > 1;
    for (int i = 0; i < 200; i++) {
        pid_t p = fork();
        if (p < 0) { if (lenient) continue; printf("fork failed\n"); return 1; }
        if (p == 0) {
            shared = 100 + i;
            if (i % 10 == 0) { pid_t q = fork(); if (q == 0) _exit(5); if (q > 0) { int s; waitpid(q, &s, 0); if (!lenient && s != 5 << 8) _exit(99); } }
            _exit(i & 127);
        }
        int s = 0;
        if (waitpid(p, &s, 0) != p) { printf("wait\n"); return 2; }
        if (s != (i & 127) << 8 && !(lenient && (s == 9 || s == 99 << 8))) { printf("status %x of %d\n", s, i); return 3; }
        if (shared != 1) { printf("not copied\n"); return 4; }
    }
    printf("forks ok\n");
    return 0;
}
