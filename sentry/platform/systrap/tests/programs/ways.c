// The other ways into the kernel (LAWS section 2) and hostile register states at a system call.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
static long raw(long n) { long r; asm volatile("syscall" : "=a"(r) : "0"(n) : "rcx", "r11", "memory"); return r; }
static int way(int i) {
    long r, f, g;
    switch (i) {
    case 0: asm volatile("int $0x80" : "=a"(r) : "0"(20)); return 1;
    case 1: return raw(0x40000000 | 39) == -38 ? 0 : 1;
    case 2: return raw(0x123456780000006eL) == getppid() ? 0 : 1;
    case 3: r = ((long (*)(long *))0xffffffffff600400)(0); return r == -38 || r > 1000000000 ? 0 : 1;
    case 4: asm volatile("sysenter"); return 1;
    case 5: { // far jump to compatibility mode, int 0x80 there
        unsigned char *code = mmap((void *)0x20000, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (code == MAP_FAILED) return 2;
        code[0] = 0xcd; code[1] = 0x80; code[2] = 0xf4;
        struct { uint32_t ip; uint16_t cs; } __attribute__((packed)) target = { 0x20000, 0x23 };
        asm volatile("mov $20,%%eax; ljmp *%0" : : "m"(target) : "rax");
        return 1; }
    case 6: asm volatile("push $0x2b; push %%rsp; pushfq; push $0x1234; push $0; iretq" ::: "memory"); return 1;
    case 7: asm volatile("pushfq; orq $0x40000,(%%rsp); popfq; mov $110,%%eax; syscall; pushfq; pop %0; pushfq; andq $~0x40000,(%%rsp); popfq" : "=&r"(f) :: "rax", "rcx", "r11", "memory"); return f & 0x40000 ? 0 : 1;
    case 8: asm volatile("pushfq; orq $0x4000,(%%rsp); popfq; mov $110,%%eax; syscall; pushfq; pop %0; pushfq; andq $~0x4000,(%%rsp); popfq" : "=&r"(f) :: "rax", "rcx", "r11", "memory"); return f & 0x4000 ? 0 : 1;
    case 9: asm volatile("mov $0x12340000,%%rax; wrgsbase %%rax; mov $110,%%eax; syscall; rdgsbase %0" : "=&r"(g) :: "rax", "rcx", "r11", "memory"); return g == 0x12340000 ? 0 : 1;
    case 10: asm volatile("mov %%rsp,%%r12; mov $0x8000000000000123,%%rsp; mov $110,%%eax; syscall; mov %%rsp,%0; mov %%r12,%%rsp" : "=&r"(r) :: "rax", "rcx", "r11", "r12", "memory"); return (unsigned long)r == 0x8000000000000123 ? 0 : 1;
    case 11: *(volatile int *)0 = 1; return 1;
    case 12: asm volatile("ud2"); return 1;
    case 13: asm volatile("xor %%edx,%%edx; xor %%ecx,%%ecx; mov $1,%%eax; div %%ecx" ::: "rax", "rcx", "rdx"); return 1;
    case 14: asm volatile("int3"); return 1;
    case 15: asm volatile("hlt"); return 1;
    case 16: { volatile long *p = (long *)0x8000000000000000; return *p; }
    case 17: ((void (*)(void))0x8000000000000000)(); return 1;
    }
    return 1;
}
int main(void) {
    static const int expected[] = { 11, 0, 0, 0, -1, 11, 11, 0, 0, 0, 0, 11, 4, 8, 5, 11, 11, 11 };
    int wrong = 0;
    for (int i = 0; i < 18; i++) {
        pid_t p = fork();
        if (p == 0) _exit(way(i));
        int s; waitpid(p, &s, 0);
        int ok = expected[i] == 0 ? s == 0 : expected[i] < 0 ? s == 4 || s == 11 : s == expected[i];
        if (!ok) { printf("way %d: status %x\n", i, s); wrong = 1; }
    }
    if (wrong) return 1;
    printf("ways ok\n");
    return 0;
}
