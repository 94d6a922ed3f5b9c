/* Clocks, sleeping, interval and POSIX timers. */
#include "t.h"
#include <sys/times.h>
#include <sys/timex.h>

static volatile int hits;
static volatile siginfo_t info;
static void count(int s) { (void)s; hits++; }
static void take(int s, siginfo_t *i, void *c) { (void)s; (void)c; hits++; info = *i; }
static int64_t ns(clockid_t c) {
  struct timespec t;
  OK(clock_gettime(c, &t));
  return t.tv_sec * 1000000000ll + t.tv_nsec;
}

TEST(clocks_advance) {
  clockid_t c[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_TAI};
  for (unsigned i = 0; i < sizeof c / sizeof *c; i++) {
    int64_t a = ns(c[i]);
    t_ms(20);
    int64_t d = ns(c[i]) - a;
    if (d < 10000000 || d > 5000000000ll) t_fail("clock %d went %ld ns in 20 ms", c[i], (long)d);
    struct timespec r;
    OK(clock_getres(c[i], &r));
    CHECK(r.tv_sec == 0 && r.tv_nsec >= 1 && r.tv_nsec <= 10000000);
  }
  ERR(clock_gettime(99, 0), EINVAL);
  ERR(syscall(SYS_clock_gettime, CLOCK_REALTIME, 8), EFAULT);
}
TEST(monotonic_never_goes_back) {
  int64_t last = 0;
  for (int i = 0; i < 200000; i++) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t n = t.tv_sec * 1000000000ll + t.tv_nsec;
    CHECK(n >= last);
    last = n;
  }
}
TEST(vdso_agrees_with_the_call) {
  clockid_t c[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
  for (int i = 0; i < 3; i++) {
    struct timespec t;
    int64_t a = ns(c[i]);
    OK(syscall(SYS_clock_gettime, c[i], &t));
    int64_t k = t.tv_sec * 1000000000ll + t.tv_nsec, b = ns(c[i]);
    CHECK(a <= k && k <= b);
  }
  struct timeval v;
  OK(gettimeofday(&v, 0));
  CHECK(labs(v.tv_sec - time(0)) <= 1);
  CHECK(labs(syscall(SYS_time, 0) - time(0)) <= 1);
}
TEST(cpu_clocks) {
  int64_t p = ns(CLOCK_PROCESS_CPUTIME_ID), t = ns(CLOCK_THREAD_CPUTIME_ID), w = ns(CLOCK_MONOTONIC);
  while (ns(CLOCK_MONOTONIC) - w < 100000000) {}
  int64_t dp = ns(CLOCK_PROCESS_CPUTIME_ID) - p, dt = ns(CLOCK_THREAD_CPUTIME_ID) - t;
  CHECK(dp > 5000000 && dt > 5000000);
  struct tms m;
  CHECK(times(&m) != -1);
  clockid_t id;
  EQ(clock_getcpuclockid(getpid(), &id), 0);
  CHECK(ns(id) >= dp);
  w = ns(CLOCK_THREAD_CPUTIME_ID);
  t_ms(100);
  CHECK(ns(CLOCK_THREAD_CPUTIME_ID) - w < 80000000); /* sleeping costs nothing */
}
TEST(nanosleep_lasts) {
  int64_t a = ns(CLOCK_MONOTONIC);
  struct timespec t = {0, 30000000};
  OK(nanosleep(&t, 0));
  CHECK(ns(CLOCK_MONOTONIC) - a >= 30000000);
  t.tv_nsec = -1;
  ERR(nanosleep(&t, 0), EINVAL);
  t = (struct timespec){-1, 0};
  ERR(nanosleep(&t, 0), EINVAL);
  ERR(nanosleep((void *)8, 0), EFAULT);
}
TEST(clock_nanosleep_forms) {
  int64_t end = ns(CLOCK_MONOTONIC) + 30000000;
  struct timespec t = {end / 1000000000, end % 1000000000};
  EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0), 0);
  CHECK(ns(CLOCK_MONOTONIC) >= end);
  EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0), 0);
  t = (struct timespec){0, 1000000};
  EQ(clock_nanosleep(CLOCK_REALTIME, 0, &t, 0), 0);
  EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, 0), EINVAL);
  EQ(clock_nanosleep(99, 0, &t, 0), EINVAL);
}
TEST(alarm_forms) {
  signal(SIGALRM, count);
  EQ(alarm(100), 0);
  unsigned left = alarm(0);
  CHECK(left == 100 || left == 99);
  EQ(alarm(1), 0);
  int64_t a = t_now_ms();
  pause();
  CHECK(t_now_ms() - a >= 900 && hits == 1);
}
TEST(interval_timer) {
  signal(SIGALRM, count);
  struct itimerval v = {{0, 10000}, {0, 10000}}, g;
  OK(setitimer(ITIMER_REAL, &v, 0));
  AWAIT(hits >= 5);
  OK(getitimer(ITIMER_REAL, &g));
  EQ(g.it_interval.tv_usec, 10000);
  CHECK(g.it_value.tv_usec <= 10000);
  v = (struct itimerval){{0, 0}, {0, 0}};
  OK(setitimer(ITIMER_REAL, &v, &g));
  EQ(g.it_interval.tv_usec, 10000);
  v.it_value.tv_usec = 1000000;
  ERR(setitimer(ITIMER_REAL, &v, 0), EINVAL);
  ERR(setitimer(9, &v, 0), EINVAL);
}
TEST(cpu_interval_timers) {
  signal(SIGVTALRM, count);
  struct itimerval v = {{0, 0}, {0, 20000}};
  OK(setitimer(ITIMER_VIRTUAL, &v, 0));
  int64_t a = t_now_ms();
  while (!hits && t_now_ms() - a < 10000) {}
  EQ(hits, 1);
  signal(SIGPROF, count);
  OK(setitimer(ITIMER_PROF, &v, 0));
  while (hits < 2 && t_now_ms() - a < 15000) {}
  EQ(hits, 2);
}
TEST(alarm_survives_exec_not_fork) {
  alarm(50);
  pid_t c = CHILD({ EQ(alarm(0), 0); });
  JOIN(c);
  CHECK(alarm(0) > 0);
  c = CHILD({
    ualarm(100000, 0);
    execl("/bin/sleep", "sleep", "10", NULL);
  });
  JOIN_SIGNAL(c, SIGALRM);
}
TEST(posix_timer_signals) {
  struct sigaction a = {.sa_sigaction = take, .sa_flags = SA_SIGINFO | SA_RESTART};
  OK(sigaction(SIGUSR1, &a, 0));
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 99};
  timer_t t;
  OK(timer_create(CLOCK_MONOTONIC, &e, &t));
  struct itimerspec s = {{0, 10000000}, {0, 10000000}}, g;
  OK(timer_settime(t, 0, &s, 0));
  AWAIT(hits >= 3);
  EQ(info.si_code, SI_TIMER);
  EQ(info.si_value.sival_int, 99);
  OK(timer_gettime(t, &g));
  EQ(g.it_interval.tv_nsec, 10000000);
  OK(timer_delete(t));
  ERR(syscall(SYS_timer_delete, 12345), EINVAL);
}
TEST(posix_timer_overrun) {
  sigset_t m;
  sigemptyset(&m);
  sigaddset(&m, SIGUSR1);
  OK(sigprocmask(SIG_BLOCK, &m, 0));
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  timer_t t;
  OK(timer_create(CLOCK_MONOTONIC, &e, &t));
  struct itimerspec s = {{0, 1000000}, {0, 1000000}};
  OK(timer_settime(t, 0, &s, 0));
  t_ms(60);
  siginfo_t i;
  EQ(sigwaitinfo(&m, &i), SIGUSR1);
  CHECK(i.si_overrun >= 20);
  CHECK(timer_getoverrun(t) >= 20);
}
TEST(posix_timer_without_signal) {
  struct sigevent e = {.sigev_notify = SIGEV_NONE};
  timer_t t;
  OK(timer_create(CLOCK_REALTIME, &e, &t));
  struct itimerspec s = {{0, 0}, {100, 0}}, g;
  OK(timer_settime(t, 0, &s, 0));
  OK(timer_gettime(t, &g));
  CHECK(g.it_value.tv_sec >= 98);
  ERR(timer_settime(t, 0, 0, 0), EINVAL);
  ERR(timer_create(99, &e, &t), EINVAL);
}
TEST(clock_setting_is_refused_or_root) {
  struct timex x = {.modes = 0};
  CHECK(adjtimex(&x) >= 0 || errno == ENOSYS || errno == EPERM);
  pid_t c = CHILD({
    if (geteuid() == 0) OK(setresuid(1000, 1000, 1000));
    struct timespec t = {1, 0};
    ERR(clock_settime(CLOCK_REALTIME, &t), EPERM);
  });
  JOIN(c);
}
