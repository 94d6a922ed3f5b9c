/* Signals: handlers, masks, queues, alternate stacks, restarting, waiting for them. */
#include "t.h"
#include <setjmp.h>
#include <sys/ucontext.h>

static volatile int hits, last, nested;
static volatile siginfo_t info;
static void count(int s) { hits++; last = s; }
static void take(int s, siginfo_t *i, void *c) { (void)c; hits++; last = s; info = *i; }
static void on(int s, void (*f)(int), int flags) {
  struct sigaction a = {.sa_handler = f, .sa_flags = flags};
  OK(sigaction(s, &a, 0));
}
static void on_info(int s, int flags) {
  struct sigaction a = {.sa_sigaction = take, .sa_flags = SA_SIGINFO | flags};
  OK(sigaction(s, &a, 0));
}
static sigset_t set_of(int s) {
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, s);
  return m;
}

TEST(handler_runs) {
  on(SIGUSR1, count, 0);
  OK(raise(SIGUSR1));
  EQ(hits, 1);
  OK(kill(getpid(), SIGUSR1));
  EQ(hits, 2);
  struct sigaction old;
  OK(sigaction(SIGUSR1, 0, &old));
  CHECK(old.sa_handler == count);
  ERR(sigaction(SIGKILL, &old, 0), EINVAL);
  ERR(sigaction(SIGSTOP, &old, 0), EINVAL);
  ERR(sigaction(65, &old, 0), EINVAL);
  EQ(signal(SIGUSR1, SIG_IGN) == count, 1);
  OK(raise(SIGUSR1));
  EQ(hits, 2);
}
TEST(siginfo_of_kill) {
  on_info(SIGUSR1, 0);
  OK(kill(getpid(), SIGUSR1));
  EQ(info.si_signo, SIGUSR1);
  EQ(info.si_code, SI_USER);
  EQ(info.si_pid, getpid());
  EQ(info.si_uid, getuid());
  OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
  EQ(info.si_code, SI_TKILL);
  union sigval v = {.sival_ptr = (void *)0x123456789a};
  OK(sigqueue(getpid(), SIGUSR1, v));
  EQ(info.si_code, SI_QUEUE);
  CHECK(info.si_value.sival_ptr == v.sival_ptr);
}
TEST(mask_and_pending) {
  on(SIGUSR1, count, 0);
  sigset_t m = set_of(SIGUSR1), old, p;
  OK(sigprocmask(SIG_BLOCK, &m, &old));
  CHECK(!sigismember(&old, SIGUSR1));
  OK(raise(SIGUSR1));
  OK(raise(SIGUSR1));
  EQ(hits, 0);
  OK(sigpending(&p));
  CHECK(sigismember(&p, SIGUSR1) && !sigismember(&p, SIGUSR2));
  OK(sigprocmask(SIG_UNBLOCK, &m, 0));
  EQ(hits, 1); /* standard signals do not queue */
  sigfillset(&m);
  OK(sigprocmask(SIG_SETMASK, &m, 0));
  OK(sigprocmask(SIG_SETMASK, 0, &old));
  CHECK(!sigismember(&old, SIGKILL) && !sigismember(&old, SIGSTOP) && sigismember(&old, SIGTERM));
  errno = 0;
  EQ(syscall(SYS_rt_sigprocmask, 9, &m, 0, 8), -1);
  EQ(errno, EINVAL);
  ERR(syscall(SYS_rt_sigprocmask, 0, &m, 0, 4), EINVAL);
}
static volatile int order[64], order_n;
static void record(int s, siginfo_t *i, void *c) { (void)c; order[order_n++] = s * 1000 + i->si_int; }
TEST(realtime_queue) {
  struct sigaction a = {.sa_sigaction = record, .sa_flags = SA_SIGINFO};
  sigfillset(&a.sa_mask);
  sigset_t m;
  sigemptyset(&m);
  for (int s = 40; s < 43; s++) {
    sigaddset(&m, s);
    OK(sigaction(s, &a, 0));
  }
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  for (int i = 0; i < 3; i++)
    for (int s = 42; s >= 40; s--) {
      union sigval v = {.sival_int = i};
      OK(sigqueue(getpid(), s, v));
    }
  OK(sigprocmask(SIG_UNBLOCK, &m, 0));
  EQ(order_n, 9);
  for (int i = 0; i < 9; i++) EQ(order[i], (40 + i / 3) * 1000 + i % 3);
}
static void inner(int s) {
  sigset_t m;
  sigprocmask(0, 0, &m);
  nested = sigismember(&m, s) * 2 + sigismember(&m, SIGUSR2);
}
TEST(mask_during_handler) {
  struct sigaction a = {.sa_handler = inner};
  a.sa_mask = set_of(SIGUSR2);
  OK(sigaction(SIGUSR1, &a, 0));
  OK(raise(SIGUSR1));
  EQ(nested, 3);
  a.sa_flags = SA_NODEFER;
  sigemptyset(&a.sa_mask);
  OK(sigaction(SIGUSR1, &a, 0));
  OK(raise(SIGUSR1));
  EQ(nested, 0);
  sigset_t m;
  sigprocmask(0, 0, &m);
  CHECK(!sigismember(&m, SIGUSR1));
}
TEST(reset_hand) {
  on(SIGUSR1, count, SA_RESETHAND);
  OK(raise(SIGUSR1));
  struct sigaction a;
  OK(sigaction(SIGUSR1, 0, &a));
  CHECK(a.sa_handler == SIG_DFL);
  pid_t c = CHILD(raise(SIGUSR1));
  JOIN_SIGNAL(c, SIGUSR1);
}
TEST(default_actions) {
  int fatal[] = {SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGABRT, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGBUS, SIGTRAP, SIGXCPU, SIGSYS, SIGVTALRM, SIGPROF, SIGIO, SIGPWR, SIGSTKFLT, 34, 64};
  struct rlimit none = {0, 0};
  OK(setrlimit(RLIMIT_CORE, &none));
  for (unsigned i = 0; i < sizeof fatal / sizeof *fatal; i++) {
    pid_t c = CHILD({ kill(getpid(), fatal[i]); t_ms(2000); });
    JOIN_SIGNAL(c, fatal[i]);
  }
  int ignored[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
  for (int i = 0; i < 4; i++) {
    pid_t c = CHILD(kill(getpid(), ignored[i]));
    JOIN(c);
  }
}
static char stack[65536];
static void *volatile seen_stack;
static void where(int s) {
  (void)s;
  char here;
  seen_stack = &here;
  stack_t k;
  sigaltstack(0, &k);
  nested = k.ss_flags;
}
TEST(alternate_stack) {
  stack_t k = {.ss_sp = stack, .ss_size = sizeof stack}, old;
  OK(sigaltstack(&k, &old));
  EQ(old.ss_flags, SS_DISABLE);
  on(SIGUSR1, where, SA_ONSTACK);
  OK(raise(SIGUSR1));
  CHECK((char *)seen_stack >= stack && (char *)seen_stack < stack + sizeof stack);
  EQ(nested, SS_ONSTACK);
  on(SIGUSR1, where, 0);
  OK(raise(SIGUSR1));
  CHECK((char *)seen_stack < stack || (char *)seen_stack >= stack + sizeof stack);
  k.ss_size = 100;
  ERR(sigaltstack(&k, 0), ENOMEM);
  k.ss_flags = 0x55;
  ERR(sigaltstack(&k, 0), EINVAL);
  k.ss_flags = SS_DISABLE;
  OK(sigaltstack(&k, 0));
  OK(sigaltstack(0, &old));
  EQ(old.ss_flags, SS_DISABLE);
}
static sigjmp_buf back;
static void leap(int s) { siglongjmp(back, s); }
#pragma GCC diagnostic ignored "-Winfinite-recursion"
static int __attribute__((noinline)) deep(volatile int n) {
  volatile char pad[4096];
  pad[0] = n;
  return deep(n + 1) + pad[0];
}
TEST(stack_overflow_on_alternate_stack) {
  struct rlimit r = {1 << 20, 1 << 20};
  OK(setrlimit(RLIMIT_STACK, &r));
  pid_t c = CHILD({
    stack_t k = {.ss_sp = stack, .ss_size = sizeof stack};
    OK(sigaltstack(&k, 0));
    on(SIGSEGV, leap, SA_ONSTACK);
    int got = sigsetjmp(back, 1);
    if (!got) deep(0);
    EQ(got, SIGSEGV);
  });
  JOIN(c);
}
TEST(handler_changes_the_context) {
  on(SIGSEGV, leap, 0);
  for (int i = 0; i < 100; i++) {
    int got = sigsetjmp(back, 1);
    if (!got) *(volatile int *)8 = 1;
    EQ(got, SIGSEGV);
  }
}
static void skip_instruction(int s, siginfo_t *i, void *c) {
  (void)s; (void)i;
  ucontext_t *u = c;
  u->uc_mcontext.gregs[REG_RIP] += 2; /* ud2 */
  u->uc_mcontext.gregs[REG_RAX] = 1234;
  hits++;
}
TEST(context_registers) {
  struct sigaction a = {.sa_sigaction = skip_instruction, .sa_flags = SA_SIGINFO};
  OK(sigaction(SIGILL, &a, 0));
  long r = 5;
  __asm__ volatile("ud2" : "+a"(r));
  EQ(r, 1234);
  EQ(hits, 1);
}
static void spoil(int s) {
  (void)s;
  __asm__ volatile("pxor %%xmm0,%%xmm0; pxor %%xmm15,%%xmm15; fninit" ::: "xmm0", "xmm15");
  hits++;
}
TEST(vector_state_survives) {
  on(SIGUSR1, spoil, 0);
  double before[2] = {1.5, -2.25}, after[2] = {0};
  long pid = getpid(), r;
  __asm__ volatile("movupd (%[b]),%%xmm15; mov %[nr],%%eax; mov %[sig],%%esi; syscall; movupd %%xmm15,(%[a])"
                   : "=&a"(r)
                   : [b] "r"(before), [a] "r"(after), [nr] "i"(SYS_kill), "D"(pid), [sig] "i"(SIGUSR1)
                   : "rcx", "r11", "rsi", "xmm15", "memory");
  EQ(r, 0);
  EQ(hits, 1);
  CHECK(after[0] == 1.5 && after[1] == -2.25);
}
TEST(read_restarts) {
  int p[2];
  OK(pipe(p));
  on(SIGUSR1, count, SA_RESTART);
  pid_t me = getpid(), c = CHILD({
    t_ms(40);
    kill(me, SIGUSR1);
    t_ms(40);
    EQ(write(p[1], "x", 1), 1);
  });
  char b;
  EQ(read(p[0], &b, 1), 1);
  EQ(hits, 1);
  JOIN(c);
}
TEST(read_is_interrupted) {
  int p[2];
  OK(pipe(p));
  on(SIGUSR1, count, 0);
  pid_t me = getpid(), c = CHILD({
    t_ms(40);
    kill(me, SIGUSR1);
  });
  char b;
  ERR(read(p[0], &b, 1), EINTR);
  EQ(hits, 1);
  int st;
  while (waitpid(c, &st, 0) < 0) EQ(errno, EINTR);
}
TEST(ignored_signals_do_not_interrupt) {
  int p[2];
  OK(pipe(p));
  signal(SIGUSR1, SIG_IGN);
  pid_t me = getpid(), c = CHILD({
    t_ms(40);
    kill(me, SIGUSR1);
    kill(me, SIGWINCH);
    t_ms(40);
    EQ(write(p[1], "x", 1), 1);
  });
  char b;
  EQ(read(p[0], &b, 1), 1);
  JOIN(c);
}
TEST(nanosleep_remaining) {
  on(SIGALRM, count, SA_RESTART);
  struct timespec t = {5, 0}, left = {0, 0};
  ualarm(50000, 0);
  ERR(nanosleep(&t, &left), EINTR);
  CHECK(left.tv_sec == 4 && hits == 1);
}
TEST(sleep_continues_after_stop) {
  int64_t start = t_now_ms();
  pid_t c = CHILD({
    struct timespec t = {0, 200000000};
    OK(nanosleep(&t, 0)); /* restart_syscall: SIGSTOP and SIGCONT are not seen */
  });
  t_ms(50);
  OK(kill(c, SIGSTOP));
  int st;
  EQ(waitpid(c, &st, WUNTRACED), c);
  CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGSTOP);
  OK(kill(c, SIGCONT));
  JOIN(c);
  CHECK(t_now_ms() - start >= 199);
}
TEST(sigsuspend_swaps_the_mask) {
  on(SIGUSR1, count, 0);
  sigset_t m = set_of(SIGUSR1), none, now;
  sigemptyset(&none);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  OK(raise(SIGUSR1));
  EQ(hits, 0);
  ERR(sigsuspend(&none), EINTR);
  EQ(hits, 1);
  OK(sigprocmask(0, 0, &now));
  CHECK(sigismember(&now, SIGUSR1));
}
TEST(sigtimedwait_forms) {
  sigset_t m = set_of(SIGUSR1);
  sigaddset(&m, 40);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  struct timespec t = {0, 30000000};
  siginfo_t i;
  ERR(sigtimedwait(&m, &i, &t), EAGAIN);
  union sigval v = {.sival_int = 5};
  OK(sigqueue(getpid(), 40, v));
  OK(raise(SIGUSR1));
  EQ(syscall(SYS_rt_sigtimedwait, &m, &i, 0, 8), SIGUSR1); /* glibc hides SI_TKILL */
  EQ(i.si_code, SI_TKILL);
  EQ(sigwaitinfo(&m, &i), 40);
  EQ(i.si_value.sival_int, 5);
  pid_t me = getpid(), c = CHILD({
    t_ms(40);
    kill(me, SIGUSR1);
  });
  t.tv_sec = 5;
  EQ(sigtimedwait(&m, &i, &t), SIGUSR1);
  EQ(i.si_pid, c);
  JOIN(c);
  t.tv_nsec = -1;
  ERR(sigtimedwait(&m, &i, &t), EINVAL);
  on(SIGUSR2, count, SA_RESTART);
  c = CHILD({
    t_ms(40);
    kill(me, SIGUSR2);
  });
  t = (struct timespec){5, 0};
  ERR(sigtimedwait(&m, &i, &t), EINTR);
  int st;
  while (waitpid(c, &st, 0) < 0) {}
}
TEST(kill_targets) {
  on(SIGUSR1, count, 0);
  OK(kill(getpid(), 0));
  OK(kill(0, SIGUSR1)); /* my group */
  EQ(hits, 1);
  OK(kill(-getpgrp(), SIGUSR1));
  EQ(hits, 2);
  ERR(kill(getpid(), 65), EINVAL);
  pid_t c = CHILD({});
  JOIN(c);
  ERR(kill(c, 0), ESRCH);
  ERR(syscall(SYS_tgkill, getpid(), 99999, SIGUSR1), ESRCH);
  ERR(syscall(SYS_tgkill, -1, 1, SIGUSR1), EINVAL);
  OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
  EQ(hits, 3);
  siginfo_t i = {.si_code = SI_USER, .si_signo = SIGUSR1};
  if (getppid() > 1) ERR(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &i), EPERM);
}
TEST(kill_permission) {
  if (geteuid()) SKIP("needs root");
  pid_t root = CHILD(pause());
  pid_t c = CHILD({
    OK(setresuid(1000, 1000, 1000));
    ERR(kill(root, SIGTERM), EPERM);
    ERR(kill(root, 0), EPERM);
  });
  JOIN(c);
  OK(kill(root, SIGKILL));
  JOIN_SIGNAL(root, SIGKILL);
}
static volatile pthread_t hit_by;
static void who(int s) {
  (void)s;
  hit_by = pthread_self();
  __atomic_add_fetch(&hits, 1, __ATOMIC_SEQ_CST);
}
static void *wait_for_flag(void *flag) {
  while (!*(volatile int *)flag) t_ms(1);
  return 0;
}
TEST(threads_directed_and_shared) {
  on(SIGUSR1, who, SA_RESTART);
  volatile int done = 0;
  pthread_t t;
  EQ(pthread_create(&t, 0, wait_for_flag, (void *)&done), 0);
  EQ(pthread_kill(t, SIGUSR1), 0);
  AWAIT(hits == 1);
  CHECK(pthread_equal(hit_by, t));
  sigset_t m = set_of(SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &m, 0);
  OK(kill(getpid(), SIGUSR1)); /* only the other thread may take it */
  AWAIT(hits == 2);
  CHECK(pthread_equal(hit_by, t));
  done = 1;
  pthread_join(t, 0);
}
TEST(storm) {
  on(SIGUSR1, who, SA_RESTART);
  on(SIGUSR2, who, SA_RESTART);
  pid_t me = getpid(), c = CHILD({
    for (int i = 0; i < 2000; i++) kill(me, i & 1 ? SIGUSR1 : SIGUSR2);
  });
  int p[2];
  OK(pipe(p));
  char b[3] = "ab";
  for (int i = 0; i < 2000; i++) {
    EQ(write(p[1], b, 2), 2);
    EQ(read(p[0], b, 2), 2);
    CHECK(b[0] == 'a' && b[1] == 'b');
  }
  int st;
  EQ(waitpid(c, &st, 0), c);
  CHECK(hits > 0);
}
TEST(pause_returns) {
  on(SIGALRM, count, SA_RESTART);
  ualarm(30000, 0);
  ERR(pause(), EINTR);
  EQ(hits, 1);
}
static void forked(int s) {
  (void)s;
  pid_t c = fork();
  if (!c) _exit(3);
  int st;
  waitpid(c, &st, 0);
  hits += WEXITSTATUS(st);
}
TEST(fork_in_a_handler) {
  on(SIGUSR1, forked, 0);
  OK(raise(SIGUSR1));
  EQ(hits, 3);
}
TEST(fork_keeps_handlers_and_mask_not_pending) {
  on(SIGUSR1, count, 0);
  sigset_t m = set_of(SIGUSR1);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  OK(raise(SIGUSR1));
  pid_t c = CHILD({
    sigset_t p;
    OK(sigpending(&p));
    CHECK(!sigismember(&p, SIGUSR1));
    OK(sigprocmask(SIG_UNBLOCK, &m, 0));
    EQ(hits, 0);
    OK(raise(SIGUSR1));
    EQ(hits, 1);
  });
  JOIN(c);
}
