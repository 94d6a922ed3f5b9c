// Things a guest may try on the stub: all must end the child alone, or do nothing.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <stdint.h>
#include <sys/wait.h>
#include <sys/syscall.h>
#include <sys/auxv.h>
static char *blob;
static long through(long nr, long a, long b, long c, long d, long e, long f) {
    // A `syscall` instruction of the stub's own text, jumped to.
    static char *at;
    if (!at) for (char *p = blob; ; p++) if (p[0] == 0x0f && p[1] == 0x05 && (unsigned char)p[2] == 0xc3) { at = p; break; }
    long r;
    register long r10 asm("r10") = d; register long r8 asm("r8") = e; register long r9 asm("r9") = f;
    asm volatile("sub $128,%%rsp; call *%[at]; add $128,%%rsp" : "=a"(r) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9), [at] "r"(at) : "rcx", "r11", "memory");
    return r;
}
static int child(int which) {
    char *area = blob + 0x1000000;
    switch (which) {
    case 0: through(SYS_mmap, 0x10000000, 4096, 3, 0x32, -1, 0); return 50;
    case 1: through(SYS_clone, 17, 0, 0, 0, 0, 0); return 51;
    case 2: through(SYS_write, 1, (long)"no\n", 3, 0, 0, 0); return 52;
    case 3: through(SYS_munmap, (long)area, 4096, 0, 0, 0, 0); return 53;
    case 4: blob[100] = 1; return 54;
    case 5: memset(area, 0xff, 4096); getppid(); return 55;
    case 6: ((void (*)(void))(blob + 0x50))(); return 56;
    case 7: through(SYS_mprotect, 1L << 63, 0x73730000, 0x5a5a5a5a, 0, 0, 0); return 57;
    case 8: { struct { void *p; int f; size_t n; } s = { (void *)0x1000, 0, 4096 }; if (through(SYS_sigaltstack, (long)&s, 0, 0, 0, 0, 0)) return 0; getppid(); return 58; }
    case 9: asm volatile("mov $0,%rsp; mov $110,%eax; syscall; mov $60,%eax; mov $9,%edi; syscall");
    case 10: through(SYS_exit, 0, 0, 0, 0, 0, 0); return 60;
    case 11: through(SYS_execve, (long)"/bin/sh", 0, 0, 0, 0, 0); return 61;
    case 12: through(SYS_rt_sigreturn, 0, 0, 0, 0, 0, 0); return 62;
    case 13: through(SYS_rt_sigprocmask, 0, (long)area, 0, 8, 0, 0); return 63;
    case 14: for (int i = 0; i < 32; i++) ((unsigned *)area)[i] = 0xfffffff0; for (int i = 0; i < 100; i++) getppid(); return 64;
    }
    return 70;
}
int main(int argc, char **argv) {
    char *vdso = (char *)getauxval(AT_SYSINFO_EHDR);
    blob = (char *)((uintptr_t)vdso & ~0x1fffffUL);
    if (memcmp(blob, "runsstub", 8)) { printf("no blob at %p: %.8s\n", blob, blob); return 1; }
    int wrong = 0;
    for (int i = 0; i < 15; i++) {
        if (i == 10) continue;
        pid_t p = fork();
        if (p == 0) _exit(child(i));
        int s = 0;
        if (waitpid(p, &s, 0) != p) { printf("wait %d\n", i); return 2; }
        int killed = s == 9 || s == 11;
        if (i == 9) killed = s == 9 << 8;
        if (i == 5 || i == 14) killed |= s == (50 + i) << 8; // its own business
        if (!killed) { printf("attack %d: status %x\n", i, s); wrong = 1; }
    }
    if (wrong) return 3;
    printf("bad ok\n");
    return 0;
}
