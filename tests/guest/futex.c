/* Futexes: waiting, waking, bit sets, time-outs, requeueing, robust lists, clear_child_tid. */
#include "t.h"
#include <linux/futex.h>

static volatile int word;
static long futex(volatile int *a, int op, int v, const struct timespec *t, volatile int *b, int v3) { return syscall(SYS_futex, a, op, v, t, b, v3); }
static volatile int woken;
static void *waiter(void *op) {
  if (futex(&word, (int)(long)op, 0, 0, 0, 0) == 0) __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
  return 0;
}
static void start(pthread_t *t, int n, long op) {
  for (int i = 0; i < n; i++) EQ(pthread_create(&t[i], 0, waiter, (void *)op), 0);
}
/* Wakes until all `n` have been woken. */
static void wake_all(volatile int *a, int op, int n) {
  int total = 0;
  for (int i = 0; i < 5000 && total < n; i++) {
    total += futex(a, op, 100, 0, 0, 0);
    t_ms(1);
  }
  EQ(total, n);
}

TEST(value_mismatch) {
  word = 1;
  ERR(futex(&word, FUTEX_WAIT, 0, 0, 0, 0), EAGAIN);
  ERR(futex(&word, FUTEX_WAIT_PRIVATE, 2, 0, 0, 0), EAGAIN);
  EQ(futex(&word, FUTEX_WAKE, 1, 0, 0, 0), 0);
}
TEST(bad_arguments) {
  ERR(futex((int *)((char *)&word + 1), FUTEX_WAIT, 0, 0, 0, 0), EINVAL);
  ERR(futex((int *)8, FUTEX_WAIT, 0, 0, 0, 0), EFAULT);
  ERR(futex(&word, 77, 0, 0, 0, 0), ENOSYS);
  struct timespec t = {0, 1000000000};
  ERR(futex(&word, FUTEX_WAIT, 0, &t, 0, 0), EINVAL);
  ERR(futex(&word, FUTEX_WAIT_BITSET, 0, 0, 0, 0), EINVAL);
  ERR(futex(&word, FUTEX_WAKE_BITSET, 1, 0, 0, 0), EINVAL);
}
TEST(timeouts) {
  struct timespec t = {0, 50000000};
  int64_t s = t_now_ms();
  ERR(futex(&word, FUTEX_WAIT, 0, &t, 0, 0), ETIMEDOUT);
  CHECK(t_now_ms() - s >= 49);
  clock_gettime(CLOCK_MONOTONIC, &t);
  t.tv_nsec += 30000000;
  if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
  ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &t, 0, -1), ETIMEDOUT);
  clock_gettime(CLOCK_REALTIME, &t);
  ERR(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &t, 0, -1), ETIMEDOUT);
  t.tv_sec = -1;
  ERR(futex(&word, FUTEX_WAIT, 0, &t, 0, 0), EINVAL);
}
TEST(wake_counts) {
  pthread_t t[4];
  start(t, 4, FUTEX_WAIT_PRIVATE);
  t_ms(50);
  EQ(futex(&word, FUTEX_WAKE, 9, 0, 0, 0), 0); /* shared and private do not meet */
  EQ(futex(&word, FUTEX_WAKE_PRIVATE, 2, 0, 0, 0), 2);
  AWAIT(woken == 2);
  wake_all(&word, FUTEX_WAKE_PRIVATE, 2);
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
  EQ(woken, 4);
}
static void *bits(void *mask) {
  futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, 0, 0, (int)(long)mask);
  __atomic_add_fetch(&woken, (int)(long)mask, __ATOMIC_SEQ_CST);
  return 0;
}
TEST(bit_sets) {
  pthread_t a, b;
  EQ(pthread_create(&a, 0, bits, (void *)1), 0);
  EQ(pthread_create(&b, 0, bits, (void *)16), 0);
  t_ms(50);
  EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 8), 0);
  AWAIT(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 16) == 1);
  AWAIT(woken == 16);
  AWAIT(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 1) == 1);
  pthread_join(a, 0);
  pthread_join(b, 0);
}
TEST(between_processes) {
  volatile int *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t c = CHILD({
    for (int i = 0; i < 300; i++) {
      while (m[0] != 1) futex(m, FUTEX_WAIT, 0, 0, 0, 0);
      m[0] = 0;
      futex(m, FUTEX_WAKE, 1, 0, 0, 0);
    }
  });
  for (int i = 0; i < 300; i++) {
    m[0] = 1;
    futex(m, FUTEX_WAKE, 1, 0, 0, 0);
    while (m[0] != 0) futex(m, FUTEX_WAIT, 1, 0, 0, 0);
  }
  JOIN(c);
}
TEST(in_a_shared_file) {
  t_in_folder();
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
  OK(ftruncate(fd, 4096));
  volatile int *a = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  pid_t c = CHILD({
    volatile int *b = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    while (b[0] == 0) futex(b, FUTEX_WAIT, 0, 0, 0, 0);
  });
  t_ms(40);
  a[0] = 1;
  futex(a, FUTEX_WAKE, 1, 0, 0, 0);
  JOIN(c);
}
static volatile int other;
TEST(requeue) {
  pthread_t t[4];
  start(t, 4, FUTEX_WAIT_PRIVATE);
  t_ms(60);
  ERR(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)100, &other, 55), EAGAIN);
  int moved = 0;
  for (int i = 0; i < 5000 && moved < 4; i++) {
    moved += OK(futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)100, &other, 0));
    t_ms(1);
  }
  EQ(moved, 4);
  AWAIT((futex(&other, FUTEX_WAKE_PRIVATE, 100, 0, 0, 0), woken == 4));
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
  EQ(woken, 4);
}
TEST(wake_op) {
  pthread_t t;
  start(&t, 1, FUTEX_WAIT_PRIVATE);
  t_ms(50);
  other = 5;
  /* other += 3; wake word; wake other if its old value was 5 */
  int op = FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5);
  long n = 0;
  for (int i = 0; i < 1000 && !n; i++) {
    other = 5;
    n = OK(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &other, op));
  }
  EQ(n, 1);
  EQ(other, 8);
  pthread_join(t, 0);
}
static void nothing(int s) { (void)s; }
TEST(interrupted) {
  struct sigaction a = {.sa_handler = nothing};
  OK(sigaction(SIGALRM, &a, 0));
  ualarm(30000, 0);
  ERR(futex(&word, FUTEX_WAIT, 0, 0, 0, 0), EINTR);
  struct timespec t = {5, 0};
  ualarm(30000, 0);
  ERR(futex(&word, FUTEX_WAIT, 0, &t, 0, 0), EINTR);
}
TEST(timed_wait_over_stop_and_continue) {
  int64_t s = t_now_ms();
  pid_t c = CHILD({
    struct timespec t = {0, 250000000};
    ERR(futex(&word, FUTEX_WAIT, 0, &t, 0, 0), ETIMEDOUT);
  });
  t_ms(50);
  OK(kill(c, SIGSTOP));
  int st;
  EQ(waitpid(c, &st, WUNTRACED), c);
  t_ms(30);
  OK(kill(c, SIGCONT));
  JOIN(c);
  CHECK(t_now_ms() - s >= 249);
}
TEST(robust_mutex) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutex_init(m, &a);
  pid_t c = CHILD({
    pthread_mutex_lock(m);
    raise(SIGKILL);
  });
  JOIN_SIGNAL(c, SIGKILL);
  EQ(pthread_mutex_lock(m), EOWNERDEAD);
  EQ(pthread_mutex_consistent(m), 0);
  EQ(pthread_mutex_unlock(m), 0);
  c = CHILD({
    pthread_mutex_lock(m);
    t_ms(60);
    execl("/bin/true", "true", NULL);
  });
  t_ms(20);
  EQ(pthread_mutex_lock(m), EOWNERDEAD); /* woken when the owner execs */
  JOIN(c);
}
static pthread_mutex_t robust_local;
static void *die_holding(void *x) {
  pthread_mutex_lock(&robust_local);
  return x;
}
TEST(robust_mutex_of_a_thread) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust_local, &a);
  pthread_t t;
  EQ(pthread_create(&t, 0, die_holding, 0), 0);
  pthread_join(t, 0);
  EQ(pthread_mutex_lock(&robust_local), EOWNERDEAD);
}
TEST(robust_list_calls) {
  struct robust_list_head *h, *g;
  size_t n;
  OK(syscall(SYS_get_robust_list, 0, &h, &n));
  EQ(n, sizeof *h);
  ERR(syscall(SYS_set_robust_list, h, 7), EINVAL);
  OK(syscall(SYS_set_robust_list, h, sizeof *h));
  OK(syscall(SYS_get_robust_list, gettid(), &g, &n));
  CHECK(g == h);
}
TEST(priority_inheritance) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  EQ(pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT), 0);
  pthread_mutex_t m;
  int e = pthread_mutex_init(&m, &a);
  if (e == ENOTSUP) SKIP("no PI futexes");
  EQ(e, 0);
  EQ(pthread_mutex_lock(&m), 0);
  EQ(pthread_mutex_unlock(&m), 0);
}
static int thread_like(void *a) {
  (void)a;
  t_ms(30);
  syscall(SYS_exit, 0);
  return 0;
}
TEST(clear_child_tid_wakes) {
  static char stack[65536] __attribute__((aligned(16)));
  static volatile int tid = 1;
  OK(clone(thread_like, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID, 0, 0, 0, &tid));
  int v;
  while ((v = tid) != 0) futex(&tid, FUTEX_WAIT, v, 0, 0, 0);
  EQ(tid, 0);
}
TEST(waitv) {
  struct { uint64_t val, uaddr; uint32_t flags, reserved; } w[2] = {{0, (uintptr_t)&word, 0x82, 0}, {0, (uintptr_t)&other, 0x82, 0}};
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  long r = syscall(449, w, 2, 0, &t, CLOCK_MONOTONIC);
  if (r < 0 && errno == ENOSYS) SKIP("no futex_waitv");
  ERR(syscall(449, w, 2, 0, &t, CLOCK_MONOTONIC), ETIMEDOUT);
  other = 1;
  ERR(syscall(449, w, 2, 0, &t, CLOCK_MONOTONIC), EAGAIN);
}
TEST_FOR(handoff_torture, 60) {
  static volatile int turn;
  pid_t c[4];
  volatile int *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  (void)turn;
  for (int i = 0; i < 4; i++)
    c[i] = CHILD({
      for (int k = 0; k < 200; k++) {
        int v;
        while ((v = m[0]) % 4 != i) futex(m, FUTEX_WAIT, v, 0, 0, 0);
        __atomic_add_fetch(&m[0], 1, __ATOMIC_SEQ_CST);
        futex(m, FUTEX_WAKE, 100, 0, 0, 0);
      }
    });
  for (int i = 0; i < 4; i++) JOIN(c[i]);
  EQ(m[0], 800);
}
