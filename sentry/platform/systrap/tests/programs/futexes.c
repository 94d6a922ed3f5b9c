#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <errno.h>
#include <time.h>
#include <stdint.h>
#include <pthread.h>
#include <linux/futex.h>
#include <sys/syscall.h>
static long fx(void *a, int op, uint32_t v, void *t, void *a2, uint32_t v3) { long r = syscall(SYS_futex, a, op, v, t, a2, v3); return r < 0 ? -errno : r; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e3 + t.tv_nsec / 1e6; }
static uint32_t word, word2;
static int woken;
static void *waiter(void *a) { long r; do r = fx(&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0, 0, 0); while (r == -EINTR); __sync_fetch_and_add(&woken, 1); return 0; }
#define CHECK(e) do { long r_ = (e); if (!r_) { printf("line %d\n", __LINE__); return 1; } } while (0)
int main(void) {
    struct timespec t = { 0, 30000000 };
    double a = now();
    CHECK(fx(&word, FUTEX_WAIT, 0, &t, 0, 0) == -ETIMEDOUT);
    double d = now() - a;
    CHECK(d >= 29.9 && d < 300);
    struct timespec abs; clock_gettime(CLOCK_MONOTONIC, &abs); abs.tv_nsec += 20000000; if (abs.tv_nsec >= 1000000000) { abs.tv_nsec -= 1000000000; abs.tv_sec++; }
    a = now();
    CHECK(fx(&word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, &abs, 0, 1) == -ETIMEDOUT);
    CHECK(now() - a >= 19);
    clock_gettime(CLOCK_REALTIME, &abs); abs.tv_nsec += 20000000; if (abs.tv_nsec >= 1000000000) { abs.tv_nsec -= 1000000000; abs.tv_sec++; }
    a = now();
    CHECK(fx(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &abs, 0, 1) == -ETIMEDOUT);
    CHECK(now() - a >= 19);
    CHECK(fx(&word, FUTEX_WAIT, 1, &t, 0, 0) == -EAGAIN);
    CHECK(fx((void *)1, FUTEX_WAIT, 1, 0, 0, 0) == -EINVAL);
    CHECK(fx((void *)4, FUTEX_WAIT, 1, 0, 0, 0) == -EFAULT);
    CHECK(fx(&word, FUTEX_WAIT, 0, (void *)8, 0, 0) == -EFAULT);
    t.tv_nsec = 1000000000;
    CHECK(fx(&word, FUTEX_WAIT, 0, &t, 0, 0) == -EINVAL);
    CHECK(fx(&word, FUTEX_WAKE, 1, 0, 0, 0) == 0);
    CHECK(fx(&word, FUTEX_WAIT_BITSET, 0, 0, 0, 0) == -EINVAL);
    CHECK(fx(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &word2, 5) == -EAGAIN);
    pthread_t th[3];
    for (int i = 0; i < 3; i++) pthread_create(&th[i], 0, waiter, 0);
    long total = 0;
    while (total < 3) { total += fx(&word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)10, &word2, 0); total += fx(&word2, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, 0, 0, 0); if (woken == 3) break; usleep(100); }
    for (int i = 0; i < 3; i++) pthread_join(th[i], 0);
    word = 0; word2 = 5;
    CHECK(fx(&word, FUTEX_WAKE_OP, 1, (void *)1, &word2, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)) == 0);
    CHECK(word2 == 8);
    CHECK(fx(&word, FUTEX_WAKE_OP, 1, (void *)1, (void *)4, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)) == -EFAULT);
    printf("futexes ok\n");
    return 0;
}
