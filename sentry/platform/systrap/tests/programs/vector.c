#include <stdio.h>
#include <string.h>
#include <immintrin.h>
#include <pthread.h>
static long raw(long n) { long r; asm volatile("syscall" : "=a"(r) : "0"(n) : "rcx", "r11", "memory"); return r; }
static int check(long seed) {
    char in[512], out[512];
    for (int i = 0; i < 512; i++) in[i] = seed * 7 + i * 13;
    long bad = 0;
    for (int n = 0; n < 3000 && !bad; n++) {
        asm volatile(
            "vmovdqu (%[in]),%%ymm0; vmovdqu 32(%[in]),%%ymm1; vmovdqu 64(%[in]),%%ymm7; vmovdqu 96(%[in]),%%ymm15;"
            "mov $0x1234,%%r12; mov %[seed],%%r13; mov $0x99,%%ebx; std;"
            "mov $110,%%eax; syscall;"
            "pushfq; pop %%r14; cld; and $0x400,%%r14; xor $0x400,%%r14; mov %%r14,%[bad];"
            "cmp $0x1234,%%r12; je 1f; movq $2,%[bad]; 1: cmp %[seed],%%r13; je 2f; movq $3,%[bad]; 2: cmp $0x99,%%ebx; je 3f; movq $4,%[bad]; 3:"
            "vmovdqu %%ymm0,(%[out]); vmovdqu %%ymm1,32(%[out]); vmovdqu %%ymm7,64(%[out]); vmovdqu %%ymm15,96(%[out]);"
            : [bad] "+m"(bad) : [in] "r"(in), [out] "r"(out), [seed] "r"(seed)
            : "rax", "rcx", "r11", "r12", "r13", "r14", "rbx", "memory", "xmm0", "xmm1", "xmm7", "xmm15");
        if (memcmp(in, out, 128)) bad = 5;
    }
    return bad;
}
static void *work(void *a) { return (void *)(long)check((long)a); }
int main(void) {
    pthread_t t[2]; void *r; long bad = 0;
    for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, work, (void *)(i + 3));
    bad = check(1);
    for (int i = 0; i < 2; i++) { pthread_join(t[i], &r); if (r) bad = (long)r; }
    if (bad) { printf("vector bad %ld\n", bad); return 1; }
    printf("vector ok\n");
    return 0;
}
