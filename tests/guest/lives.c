/* How processes end, stop and become others while their threads are busy; nothing may hang, nobody may be lost. */
#include "t.h"
#include <sys/prctl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <spawn.h>
#include <ucontext.h>

static void *spin(void *a) {
  for (;;) {}
}
static void *wait_futex(void *a) {
  static int word;
  for (;;) syscall(SYS_futex, &word, FUTEX_WAIT, 0, 0, 0, 0);
}
static void *sleep_in_call(void *a) {
  for (;;) pause();
}
static void *map_and_unmap(void *a) {
  for (;;) {
    char *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) continue;
    p[5] = 1;
    munmap(p, 65536);
  }
}
static void *fork_and_wait(void *a) {
  for (;;) {
    pid_t c = fork();
    if (c == 0) _exit(0);
    if (c > 0) waitpid(c, 0, 0);
  }
}
static void *make_threads(void *a) {
  for (;;) {
    pthread_t t;
    if (pthread_create(&t, 0, (void *(*)(void *))getpid, 0) == 0) pthread_join(t, 0);
  }
}
static void *(*const busy[])(void *) = {spin, wait_futex, sleep_in_call, map_and_unmap, fork_and_wait, make_threads};
#define BUSY (int)(sizeof busy / sizeof *busy)
static void threads_of_all_kinds(void) {
  pthread_t t;
  for (int i = 0; i < BUSY; i++) CHECK(!pthread_create(&t, 0, busy[i], 0));
}

TEST_FOR(exit_group_ends_busy_threads, 60) {
  for (int i = 0; i < 20; i++) {
    pid_t c = CHILD({
      threads_of_all_kinds();
      usleep(i * 500);
      _exit(7);
    });
    JOIN_STATUS(c, 7);
  }
}
TEST_FOR(kill_ends_busy_threads, 60) {
  for (int i = 0; i < 20; i++) {
    pid_t c = CHILD({
      threads_of_all_kinds();
      pause();
    });
    usleep(i * 1000);
    OK(kill(c, i & 1 ? SIGKILL : SIGTERM));
    JOIN_SIGNAL(c, i & 1 ? SIGKILL : SIGTERM);
  }
}
static void *call_exit_group(void *a) {
  usleep((long)a);
  _exit(9);
}
TEST_FOR(any_thread_ends_the_process, 60) {
  for (long i = 0; i < 20; i++) {
    pid_t c = CHILD({
      threads_of_all_kinds();
      pthread_t t;
      pthread_create(&t, 0, call_exit_group, (void *)(i * 300));
      pthread_create(&t, 0, call_exit_group, (void *)(i * 300));
      pthread_exit(0); /* the leader ends first */
    });
    JOIN_STATUS(c, 9);
  }
}
static void *call_exec(void *a) {
  usleep(2000);
  execl("/proc/self/exe", "lives", "nothing", NULL);
  execl("/bin/true", "true", NULL);
  _exit(99);
}
TEST_FOR(exec_by_any_thread, 60) {
  for (int i = 0; i < 12; i++) {
    pid_t c = CHILD({
      threads_of_all_kinds();
      pthread_t t;
      pthread_create(&t, 0, call_exec, 0);
      if (i & 1) pthread_exit(0);
      for (;;) pause();
    });
    JOIN_STATUS(c, 0);
  }
}
static void *exec_and_tell_ids(void *a) {
  execl("/bin/sh", "sh", "-c", "read -r pid rest < /proc/self/stat; [ $pid = $$ ] && ls /proc/self/task | wc -l | grep -qx 1 && exit 5", NULL);
  _exit(99);
}
TEST(exec_of_a_thread_takes_the_leaders_number) {
  pid_t c = CHILD({
    pthread_t t;
    pthread_create(&t, 0, exec_and_tell_ids, 0);
    for (;;) pause();
  });
  JOIN_STATUS(c, 5);
}
TEST_FOR(exec_meets_exec_and_kill, 60) {
  for (int i = 0; i < 15; i++) {
    pid_t c = CHILD({
      pthread_t t;
      for (int k = 0; k < 4; k++) pthread_create(&t, 0, call_exec, 0);
      for (;;) pause();
    });
    usleep(1500 + i * 100);
    kill(c, SIGKILL);
    int s;
    EQ(waitpid(c, &s, 0), c);
    CHECK((WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL) || (WIFEXITED(s) && WEXITSTATUS(s) == 0));
  }
}
TEST_FOR(stops_of_many_threads, 60) {
  pid_t c = CHILD({
    threads_of_all_kinds();
    for (;;) pause();
  });
  t_ms(20);
  for (int i = 0; i < 30; i++) {
    int s;
    OK(kill(c, SIGSTOP));
    EQ(waitpid(c, &s, WUNTRACED), c);
    CHECK(WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP);
    OK(kill(c, SIGCONT));
    EQ(waitpid(c, &s, WCONTINUED), c);
    CHECK(WIFCONTINUED(s));
  }
  OK(kill(c, SIGSTOP));
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
static void *end_soon(void *a) {
  usleep((long)a);
  return 0;
}
TEST_FOR(stop_while_threads_end, 60) {
  for (int i = 0; i < 20; i++) {
    pid_t c = CHILD({
      pthread_t t;
      for (long k = 0; k < 8; k++) pthread_create(&t, 0, end_soon, (void *)(1000 + k * 200));
      for (;;) pause();
    });
    usleep(1500);
    int s;
    OK(kill(c, SIGSTOP));
    EQ(waitpid(c, &s, WUNTRACED), c);
    CHECK(WIFSTOPPED(s));
    OK(kill(c, SIGKILL));
    JOIN_SIGNAL(c, SIGKILL);
  }
}
TEST_FOR(stop_and_continue_storm, 60) {
  pid_t c = CHILD({
    threads_of_all_kinds();
    for (;;) pause();
  });
  for (int i = 0; i < 300; i++) OK(kill(c, i & 1 ? SIGCONT : SIGSTOP));
  int s;
  OK(kill(c, SIGSTOP));
  EQ(waitpid(c, &s, WUNTRACED), c);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
}
TEST(terminating_signal_reaches_a_vfork_parent) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    if (vfork() == 0) {
      char b;
      close(p[1]);
      read(p[0], &b, 1); /* until the test ends */
      _exit(0);
    }
  });
  t_ms(50);
  OK(kill(c, SIGTERM));
  JOIN_SIGNAL(c, SIGTERM);
}
static pid_t child_of(pid_t parent) {
  DIR *d = opendir("/proc");
  struct dirent *e;
  pid_t found = 0;
  while ((e = readdir(d))) {
    int id = atoi(e->d_name), pid, above;
    char path[64], state;
    snprintf(path, sizeof path, "/proc/%d/stat", id);
    FILE *f = id ? fopen(path, "r") : 0;
    if (f && fscanf(f, "%d (%*[^)]) %c %d", &pid, &state, &above) == 3 && above == parent && state == 'T') found = pid;
    if (f) fclose(f);
  }
  closedir(d);
  return found;
}
TEST(stopped_child_of_vfork) {
  pid_t c = CHILD({
    pid_t v = vfork();
    if (v == 0) {
      raise(SIGSTOP);
      _exit(3);
    }
    JOIN_STATUS(v, 3);
  });
  int s;
  pid_t v;
  AWAIT((v = child_of(c)));
  EQ(waitpid(c, &s, WNOHANG | WUNTRACED), 0); /* the parent sleeps on, and is not stopped */
  OK(kill(v, SIGCONT));
  JOIN(c);
}

static char stack[65536] __attribute__((aligned(16)));
static volatile int shared_word = 0, child_tid = 1;
static int share_memory(void *a) {
  struct timespec t = {0, 50000000};
  nanosleep(&t, 0);
  shared_word = 42;
  syscall(SYS_exit_group, 4);
  return 0;
}
TEST(memory_shared_by_processes) {
  int c = OK(clone(share_memory, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID, 0, 0, 0, (int *)&child_tid));
  int now;
  while ((now = child_tid) != 0) syscall(SYS_futex, &child_tid, FUTEX_WAIT, now, 0, 0, 0);
  EQ(shared_word, 42);
  JOIN_STATUS(c, 4);
}
static int outlive(void *a) {
  AWAIT(getppid() != *(int *)a);
  char b[100];
  int n = snprintf(b, sizeof b, "%d", shared_word);
  if (write(1000, b, n) != n) _exit(1);
  void *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) _exit(2);
  memset(p, 1, 8192);
  _exit(0);
}
TEST(memory_outlives_its_first_process) {
  int p[2];
  OK(pipe(p));
  OK(dup2(p[1], 1000));
  pid_t c = CHILD({
    static int me;
    me = getpid();
    shared_word = 7;
    OK(clone(outlive, stack + sizeof stack, CLONE_VM | SIGCHLD, &me, 0, 0, 0));
  });
  JOIN(c);
  close(p[1]);
  close(1000);
  char b[10] = {0};
  EQ(read(p[0], b, 9), 1);
  STREQ(b, "7");
  EQ(read(p[0], b, 9), 0);
}
TEST(no_process_escapes_a_group_kill) {
  pid_t c = CHILD({
    setpgid(0, 0);
    for (int i = 0; i < 4; i++) if (fork() == 0) break;
    for (;;) {
      pid_t k = fork();
      if (k == 0) {
        if (fork() == 0) usleep(100);
        _exit(0);
      }
      if (k > 0) waitpid(k, 0, 0);
    }
  });
  setpgid(c, c);
  OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  t_ms(200);
  OK(kill(-c, SIGKILL));
  int64_t end = t_now_ms() + 5000;
  while (waitpid(-c, 0, WNOHANG) >= 0) CHECK(t_now_ms() < end);
  ERR(kill(-c, 0), ESRCH);
}
TEST(child_signal_is_pending_when_wait_returns) {
  sigset_t m, p;
  sigemptyset(&m);
  sigaddset(&m, SIGCHLD);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  struct timespec none = {0, 0};
  for (int i = 0; i < 200; i++) {
    pid_t c = CHILD({});
    EQ(waitpid(c, 0, 0), c);
    OK(sigpending(&p));
    CHECK(sigismember(&p, SIGCHLD));
    siginfo_t info;
    EQ(sigtimedwait(&m, &info, &none), SIGCHLD);
    EQ(info.si_pid, c);
  }
}
static volatile int got;
static void count(int s) { got++; }
static void *block_and_wait(void *a) {
  sigset_t m;
  sigfillset(&m);
  pthread_sigmask(SIG_SETMASK, &m, 0);
  for (;;) pause();
}
TEST(process_signal_finds_the_willing_thread) {
  pthread_t t;
  signal(SIGUSR1, count);
  for (int i = 0; i < 3; i++) pthread_create(&t, 0, block_and_wait, 0);
  for (int i = 0; i < 100; i++) {
    OK(kill(getpid(), SIGUSR1));
    EQ(got, i + 1);
  }
}
static void *wait_once(void *a) {
  sigset_t m;
  int s;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR2);
  CHECK(!sigwait(&m, &s));
  return 0;
}
TEST(signal_is_handed_on_when_its_thread_blocks_it) {
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR2);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, wait_once, 0);
  for (int i = 0; i < 4; i++) {
    t_ms(10);
    OK(kill(getpid(), SIGUSR2));
  }
  for (int i = 0; i < 4; i++) CHECK(!pthread_join(t[i], 0));
}
TEST(ignored_signals_end_no_sleep_of_threads) {
  pthread_t t;
  pthread_create(&t, 0, block_and_wait, 0); /* blocks SIGCHLD, SIGWINCH … */
  t_ms(20);
  pid_t me = getpid(), c = CHILD({
    for (int i = 0; i < 10; i++) kill(me, SIGWINCH), t_ms(5);
  });
  struct pollfd none;
  EQ(poll(&none, 0, 300), 0);
  JOIN(c);
}
TEST(robust_lock_of_a_killed_process) {
  pthread_mutex_t *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(m, &a);
  for (int how = 0; how < 4; how++) {
    volatile int *held = (int *)((char *)m + 2048);
    *held = 0;
    pid_t c = CHILD({
      pthread_t t;
      pthread_mutex_lock(m);
      *held = 1;
      if (how == 0) for (;;) {}
      if (how == 1) for (;;) pause();
      if (how == 2) execl("/bin/sleep", "sleep", "5", NULL);
      pthread_create(&t, 0, call_exit_group, (void *)20000);
      for (;;) {}
    });
    AWAIT(*held);
    t_ms(20);
    if (how < 2) OK(kill(c, SIGKILL));
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 3;
    EQ(pthread_mutex_timedlock(m, &end), EOWNERDEAD);
    EQ(pthread_mutex_consistent(m), 0);
    EQ(pthread_mutex_unlock(m), 0);
    kill(c, SIGKILL);
    waitpid(c, 0, 0);
  }
}
TEST_FOR(spawn_many_at_once, 60) {
  pid_t me = getpid(), c[4];
  for (int k = 0; k < 4; k++) {
    c[k] = CHILD({
      char *args[] = {"true", NULL};
      for (int i = 0; i < 25; i++) {
        pid_t s;
        CHECK(!posix_spawn(&s, "/bin/true", 0, 0, args, environ));
        JOIN(s);
      }
    });
  }
  for (int k = 0; k < 4; k++) JOIN(c[k]);
}
TEST(subreaper_inherits) {
  OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  pid_t c = CHILD({
    if (fork() == 0) {
      t_ms(50);
      _exit(6);
    }
  });
  JOIN(c);
  int s;
  CHECK(wait(&s) > 0);
  CHECK(WIFEXITED(s) && WEXITSTATUS(s) == 6);
}
TEST(cpu_time_is_told) {
  struct rusage r;
  int64_t end = t_now_ms() + 10000; /* other programs may have the processors */
  do {
    CHECK(t_now_ms() < end);
    OK(getrusage(RUSAGE_SELF, &r));
  } while (r.ru_utime.tv_sec == 0 && r.ru_utime.tv_usec < 30000);
  char self[4096], *p;
  strcpy(self, t_read_file("/proc/self/stat"));
  p = strrchr(self, ')');
  long user, system;
  EQ(sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system), 2);
  CHECK(user + system >= 2);
}
TEST(pidfd_of_a_child_that_nobody_waits_for) {
  signal(SIGCHLD, SIG_IGN);
  for (int i = 0; i < 50; i++) {
    int fd = -1;
    struct clone_args a = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&fd, .exit_signal = SIGCHLD};
    pid_t c = OK(syscall(SYS_clone3, &a, sizeof a));
    if (c == 0) _exit(0);
    CHECK(fd > 2);
    struct pollfd p = {fd, POLLIN};
    EQ(poll(&p, 1, 5000), 1);
    OK(close(fd));
  }
}
TEST(forbidden_clones) {
  struct clone_args a = {.flags = CLONE_PIDFD, .pidfd = 8, .exit_signal = SIGCHLD};
  ERR(syscall(SYS_clone3, &a, sizeof a), EFAULT);
  ERR(waitpid(-1, 0, WNOHANG), ECHILD);
  ERR(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
  ERR(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0), EINVAL);
  pid_t c = OK(syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, 8, 0, 0));
  if (c == 0) _exit(0); /* a bad address of the parent's is passed over */
  JOIN(c);
}
TEST(process_limit) {
  if (geteuid()) SKIP("needs root");
  pid_t c = CHILD({
    setpgid(0, 0);
    struct rlimit r = {3, 3};
    OK(setrlimit(RLIMIT_NPROC, &r));
    pid_t k = fork(); /* root is not bound */
    CHECK(k >= 0);
    if (k == 0) _exit(0);
    JOIN(k);
    OK(setresuid(61234, 61234, 61234));
    for (int i = 0; i < 2; i++) {
      k = OK(fork());
      if (k == 0) pause();
    }
    ERR(fork(), EAGAIN);
    kill(0, SIGKILL);
  });
  int s;
  EQ(waitpid(c, &s, 0), c);
  CHECK(WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL); /* not the exit of a failed check */
}
TEST(scheduling_policy_is_remembered) {
  struct sched_param p = {0};
  OK(sched_setscheduler(0, SCHED_BATCH, &p));
  EQ(sched_getscheduler(0), SCHED_BATCH);
  pid_t c = CHILD({ EQ(sched_getscheduler(0), SCHED_BATCH); });
  JOIN(c);
  OK(sched_setscheduler(0, SCHED_BATCH | 0x40000000, &p));
  EQ(sched_getscheduler(0), SCHED_BATCH | 0x40000000);
  OK(setpriority(PRIO_PROCESS, 0, 4));
  c = CHILD({
    EQ(sched_getscheduler(0), SCHED_BATCH);
    EQ(getpriority(PRIO_PROCESS, 0), 4);
  });
  JOIN(c);
  p.sched_priority = 5;
  ERR(sched_setscheduler(0, SCHED_OTHER, &p), EINVAL);
}
