#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e6 + t.tv_nsec / 1e3; }
static void *quick(void *a) { return a; }
#define BEST(name, rounds, n, body) do { double best = 1e18; for (int r = 0; r < rounds; r++) { double t = now(); for (int i = 0; i < n; i++) { body; } t = (now() - t) / n; if (t < best) best = t; } printf("  %-24s %9.3f us\n", name, best); } while (0)
int main(void) {
    BEST("getppid", 20, 500, getppid());
    BEST("clock_gettime", 20, 1000, now());
    BEST("mmap+munmap", 20, 50, { void *p = mmap(0, 16384, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(p, 16384); });
    BEST("mmap+touch+munmap", 20, 50, { char *p = mmap(0, 16384, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); *p = 1; munmap(p, 16384); });
    { char *p = mmap(0, 4096 * 512, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); int k = 0; BEST("fault", 8, 60, p[4096 * k++] = 1); }
    BEST("fork+exit+wait", 10, 20, { pid_t p = fork(); if (!p) _exit(0); waitpid(p, 0, 0); });
    BEST("thread create+join", 10, 20, { pthread_t t; pthread_create(&t, 0, quick, 0); pthread_join(t, 0); });
    return 0;
}
