// Threads that map, touch and unmap at the same time, with forks in between.
#include <stdio.h>
#include <string.h>
#include <pthread.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>
static void *work(void *a) {
    for (long i = 0; i < 400; i++) {
        size_t n = 4096 * (1 + (i % 4));
        char *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return (void *)1;
        for (size_t k = 0; k < n; k += 4096) { if (p[k]) return (void *)2; p[k] = 1; }
        if (i % 7 == 0 && mprotect(p, 4096, PROT_READ)) return (void *)3;
        if (munmap(p, n)) return (void *)4;
    }
    return 0;
}
int main(void) {
    pthread_t t[4]; void *r;
    for (int i = 0; i < 4; i++) if (pthread_create(&t[i], 0, work, 0)) return 1;
    for (int i = 0; i < 10; i++) {
        pid_t p = fork();
        if (p == 0) _exit((long)work(0));
        int s; if (p < 0 || waitpid(p, &s, 0) != p || s) { printf("child %x\n", s); return 2; }
    }
    for (int i = 0; i < 4; i++) { pthread_join(t[i], &r); if (r) { printf("thread %ld\n", (long)r); return 3; } }
    printf("churn ok\n");
    return 0;
}
