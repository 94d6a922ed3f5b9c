#include <stdio.h>
#include <unistd.h>
#include <sys/wait.h>
int main(void) {
    volatile int seen = 0;
    for (int i = 0; i < 100; i++) {
        pid_t p = vfork();
        if (p == 0) { seen++; _exit(3); }
        int s; if (p < 0 || waitpid(p, &s, 0) != p || s != 3 << 8) return 1;
    }
    if (seen != 100) { printf("vfork seen %d\n", seen); return 2; }
    printf("vfork ok\n");
    return 0;
}
