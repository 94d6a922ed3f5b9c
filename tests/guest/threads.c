/* Threads: creation, joining, thread-local storage, ends of threads and of the group. */
#include "t.h"
#include <linux/futex.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter;
static __thread long local = 5;

static void *adder(void *n) {
  for (long i = 0; i < (long)n; i++) {
    pthread_mutex_lock(&lock);
    counter++;
    pthread_mutex_unlock(&lock);
  }
  local += (long)n;
  return (void *)local;
}
TEST(mutex_and_tls) {
  pthread_t t[8];
  for (long i = 0; i < 8; i++) EQ(pthread_create(&t[i], 0, adder, (void *)5000), 0);
  for (int i = 0; i < 8; i++) {
    void *r;
    EQ(pthread_join(t[i], &r), 0);
    EQ(r, 5005);
  }
  EQ(counter, 40000);
  EQ(local, 5);
}
static void *ids(void *out) {
  pid_t *o = out;
  o[0] = getpid();
  o[1] = gettid();
  o[2] = getppid();
  return 0;
}
TEST(identities) {
  pid_t o[3];
  pthread_t t;
  EQ(pthread_create(&t, 0, ids, o), 0);
  pthread_join(t, 0);
  EQ(o[0], getpid());
  CHECK(o[1] != getpid());
  EQ(o[2], getppid());
}
static int turn;
static void *pingpong(void *me) {
  for (int i = 0; i < 1000; i++) {
    pthread_mutex_lock(&lock);
    while (turn != (int)(long)me) pthread_cond_wait(&cond, &lock);
    turn ^= 1;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&lock);
  }
  return 0;
}
TEST(condition_variables) {
  pthread_t a, b;
  EQ(pthread_create(&a, 0, pingpong, (void *)0), 0);
  EQ(pthread_create(&b, 0, pingpong, (void *)1), 0);
  pthread_join(a, 0);
  pthread_join(b, 0);
  EQ(turn, 0);
}
static void *just(void *a) { return a; }
TEST_FOR(create_and_join_often, 60) {
  for (long i = 0; i < 500; i++) {
    pthread_t t;
    void *r;
    EQ(pthread_create(&t, 0, just, (void *)i), 0);
    EQ(pthread_join(t, &r), 0);
    EQ(r, i);
  }
}
static void *maps(void *n) {
  for (long i = 0; i < (long)n; i++) {
    void *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    OK(munmap(p, 65536));
  }
  return 0;
}
/* A thread takes over the stack and the place of one that changed the address space more often than it does: nothing waits for the dead one. */
TEST(places_of_busy_threads_are_used_again) {
  for (int i = 0; i < 40; i++) {
    pthread_t t;
    EQ(pthread_create(&t, 0, maps, (void *)(long)(i % 2 ? 0 : 20)), 0);
    EQ(pthread_join(t, 0), 0);
  }
}
static void *sleeper(void *a) {
  (void)a;
  for (;;) pause();
  return 0;
}
TEST(exit_group_ends_all) {
  pid_t c = CHILD({
    pthread_t t;
    for (int i = 0; i < 5; i++) EQ(pthread_create(&t, 0, sleeper, 0), 0);
    t_ms(20);
    exit(7);
  });
  JOIN_STATUS(c, 7);
}
static void *leave(void *a) {
  (void)a;
  t_ms(20);
  syscall(SYS_exit_group, 9);
  return 0;
}
TEST(exit_group_from_a_thread) {
  pid_t c = CHILD({
    pthread_t t;
    EQ(pthread_create(&t, 0, leave, 0), 0);
    for (;;) pause();
  });
  JOIN_STATUS(c, 9);
}
static void *spinner(void *a) {
  (void)a;
  for (;;) __asm__ volatile("pause");
  return 0;
}
TEST(exit_group_ends_spinning_threads) {
  pid_t c = CHILD({
    pthread_t t;
    for (int i = 0; i < 3; i++) EQ(pthread_create(&t, 0, spinner, 0), 0);
    t_ms(20);
    exit(3);
  });
  JOIN_STATUS(c, 3);
}
TEST(kill_ends_spinning_threads) {
  pid_t c = CHILD({
    pthread_t t;
    for (int i = 0; i < 3; i++) EQ(pthread_create(&t, 0, spinner, 0), 0);
    for (;;) pause();
  });
  t_ms(50);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
static void *outlive(void *a) {
  t_ms(60);
  EQ(write((int)(long)a, "x", 1), 1);
  exit(5);
}
TEST(leader_may_end_first) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    pthread_t t;
    EQ(pthread_create(&t, 0, outlive, (void *)(long)p[1]), 0);
    pthread_exit(0);
  });
  EQ(waitpid(c, 0, WNOHANG), 0);
  char b;
  EQ(read(p[0], &b, 1), 1);
  JOIN_STATUS(c, 5);
}
static void *do_exec(void *a) {
  (void)a;
  execl("/bin/sh", "sh", "-c", "exit $(( $$ == $P ? 21 : 22 ))", NULL);
  return 0;
}
TEST(exec_from_a_thread) {
  pid_t c = CHILD({
    char n[32];
    snprintf(n, sizeof n, "%d", getpid());
    setenv("P", n, 1);
    pthread_t t;
    EQ(pthread_create(&t, 0, sleeper, 0), 0);
    EQ(pthread_create(&t, 0, do_exec, 0), 0);
    for (;;) pause();
  });
  JOIN_STATUS(c, 21); /* the new image has the leader's pid */
}
TEST(fork_from_threads) {
  pthread_t t;
  EQ(pthread_create(&t, 0, sleeper, 0), 0);
  pid_t c = CHILD({
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    struct dirent *e;
    while ((e = readdir(d))) n += e->d_name[0] != '.';
    EQ(n, 1);
  });
  JOIN(c);
}
static void *forker(void *a) {
  (void)a;
  for (int i = 0; i < 10; i++) {
    pid_t c = fork();
    if (!c) _exit(i);
    int s;
    if (waitpid(c, &s, 0) != c || WEXITSTATUS(s) != i) return (void *)1;
  }
  return 0;
}
TEST_FOR(fork_from_many_threads, 60) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) EQ(pthread_create(&t[i], 0, forker, 0), 0);
  for (int i = 0; i < 4; i++) {
    void *r;
    pthread_join(t[i], &r);
    EQ(r, 0);
  }
}
static void *cancel_me(void *a) {
  (void)a;
  char b;
  read((int)(long)a, &b, 1);
  return 0;
}
TEST(cancellation) {
  int p[2];
  OK(pipe(p));
  pthread_t t;
  void *r;
  EQ(pthread_create(&t, 0, cancel_me, (void *)(long)p[0]), 0);
  t_ms(20);
  EQ(pthread_cancel(t), 0);
  EQ(pthread_join(t, &r), 0);
  CHECK(r == PTHREAD_CANCELED);
}
static pthread_barrier_t barrier;
static void *at_barrier(void *a) {
  (void)a;
  long n = 0;
  for (int i = 0; i < 50; i++) n += pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD;
  return (void *)n;
}
TEST(barriers) {
  pthread_t t[6];
  pthread_barrier_init(&barrier, 0, 6);
  for (int i = 0; i < 6; i++) EQ(pthread_create(&t[i], 0, at_barrier, 0), 0);
  long serial = 0;
  for (int i = 0; i < 6; i++) {
    void *r;
    pthread_join(t[i], &r);
    serial += (long)r;
  }
  EQ(serial, 50);
}
static pthread_rwlock_t rw = PTHREAD_RWLOCK_INITIALIZER;
static void *reader_writer(void *a) {
  for (int i = 0; i < 500; i++) {
    if ((long)a) {
      pthread_rwlock_wrlock(&rw);
      counter += 2;
      pthread_rwlock_unlock(&rw);
    } else {
      pthread_rwlock_rdlock(&rw);
      if (counter & 1) return (void *)1;
      pthread_rwlock_unlock(&rw);
    }
  }
  return 0;
}
TEST(read_write_locks) {
  pthread_t t[6];
  for (long i = 0; i < 6; i++) EQ(pthread_create(&t[i], 0, reader_writer, (void *)(i % 2)), 0);
  for (int i = 0; i < 6; i++) {
    void *r;
    pthread_join(t[i], &r);
    EQ(r, 0);
  }
  EQ(counter, 3000);
}
static void *named(void *a) {
  (void)a;
  pthread_setname_np(pthread_self(), "a-name");
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/comm", gettid());
  STREQ(t_read_file(path), "a-name\n");
  return 0;
}
TEST(names_of_threads) {
  pthread_t t;
  EQ(pthread_create(&t, 0, named, 0), 0);
  pthread_join(t, 0);
}
TEST(affinity) {
  cpu_set_t s;
  OK(sched_getaffinity(0, sizeof s, &s));
  CHECK(CPU_COUNT(&s) >= 1);
  EQ(CPU_COUNT(&s), sysconf(_SC_NPROCESSORS_ONLN));
  CHECK(sched_getcpu() >= 0);
  int first = 0;
  while (!CPU_ISSET(first, &s)) first++;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  OK(sched_setaffinity(0, sizeof one, &one));
  OK(sched_getaffinity(0, sizeof s, &s));
  EQ(CPU_COUNT(&s), 1);
  CPU_ZERO(&one);
  ERR(sched_setaffinity(0, sizeof one, &one), EINVAL);
}
static void *big_stack(void *a) {
  volatile char b[3 << 20];
  for (unsigned i = 0; i < sizeof b; i += 4096) b[i] = 1;
  return (void *)(long)b[4096 * 7];
  (void)a;
}
TEST(large_thread_stacks) {
  pthread_attr_t at;
  pthread_attr_init(&at);
  EQ(pthread_attr_setstacksize(&at, 4 << 20), 0);
  pthread_t t;
  void *r;
  EQ(pthread_create(&t, &at, big_stack, 0), 0);
  pthread_join(t, &r);
  EQ(r, 1);
}
static void *meet(void *b) {
  pthread_barrier_wait(b);
  return 0;
}
TEST(fifty_threads_at_once) {
  pthread_t t[50];
  pthread_barrier_init(&barrier, 0, 51);
  for (int i = 0; i < 50; i++) EQ(pthread_create(&t[i], 0, meet, &barrier), 0);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 50; i++) pthread_join(t[i], 0);
}
