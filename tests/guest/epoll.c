/* epoll, eventfd, timerfd, signalfd. */
#include "t.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static struct epoll_event event(uint32_t events, uint64_t data) { return (struct epoll_event){.events = events, .data.u64 = data}; }

TEST(level_triggered) {
  int e = OK(epoll_create1(EPOLL_CLOEXEC)), p[2];
  OK(pipe(p));
  struct epoll_event v = event(EPOLLIN, 42), out[4];
  OK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
  ERR(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v), EEXIST);
  EQ(epoll_wait(e, out, 4, 0), 0);
  EQ(write(p[1], "ab", 2), 2);
  EQ(epoll_wait(e, out, 4, -1), 1);
  EQ(out[0].data.u64, 42);
  EQ(out[0].events, EPOLLIN);
  EQ(epoll_wait(e, out, 4, 0), 1);
  char b[4];
  EQ(read(p[0], b, 4), 2);
  EQ(epoll_wait(e, out, 4, 0), 0);
  OK(close(p[1]));
  EQ(epoll_wait(e, out, 4, 0), 1);
  EQ(out[0].events, EPOLLHUP);
}
TEST(edge_triggered) {
  int e = OK(epoll_create1(0)), p[2];
  OK(pipe(p));
  struct epoll_event v = event(EPOLLIN | EPOLLET, 1), out[4];
  OK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
  EQ(write(p[1], "a", 1), 1);
  EQ(epoll_wait(e, out, 4, 0), 1);
  EQ(epoll_wait(e, out, 4, 0), 0);
  EQ(write(p[1], "b", 1), 1);
  EQ(epoll_wait(e, out, 4, 0), 1);
}
TEST(one_shot_and_mod) {
  int e = OK(epoll_create1(0)), p[2];
  OK(pipe(p));
  EQ(write(p[1], "a", 1), 1);
  struct epoll_event v = event(EPOLLIN | EPOLLONESHOT, 1), out[4];
  OK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
  EQ(epoll_wait(e, out, 4, 0), 1);
  EQ(epoll_wait(e, out, 4, 0), 0);
  v = event(EPOLLIN | EPOLLONESHOT, 2);
  OK(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &v));
  EQ(epoll_wait(e, out, 4, 0), 1);
  EQ(out[0].data.u64, 2);
  OK(epoll_ctl(e, EPOLL_CTL_DEL, p[0], 0));
  ERR(epoll_ctl(e, EPOLL_CTL_DEL, p[0], 0), ENOENT);
  ERR(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &v), ENOENT);
}
TEST(bad_arguments) {
  t_in_folder();
  ERR(epoll_create(0), EINVAL);
  ERR(epoll_create1(1), EINVAL);
  int e = OK(epoll_create(1)), f = OK(open("a", O_CREAT | O_RDWR, 0600));
  struct epoll_event v = event(EPOLLIN, 0);
  ERR(epoll_ctl(e, EPOLL_CTL_ADD, f, &v), EPERM);
  ERR(epoll_ctl(e, EPOLL_CTL_ADD, e, &v), EINVAL);
  ERR(epoll_ctl(e, EPOLL_CTL_ADD, 99, &v), EBADF);
  ERR(epoll_ctl(f, EPOLL_CTL_ADD, e, &v), EINVAL);
  ERR(epoll_wait(e, &v, 0, 0), EINVAL);
  ERR(epoll_wait(f, &v, 1, 0), EINVAL);
}
TEST(closed_files_leave) {
  int e = OK(epoll_create1(0)), p[2];
  OK(pipe(p));
  EQ(write(p[1], "a", 1), 1);
  struct epoll_event v = event(EPOLLIN, 1), out[4];
  OK(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
  int copy = OK(dup(p[0]));
  OK(close(p[0]));
  EQ(epoll_wait(e, out, 4, 0), 1); /* the description lives on in the copy */
  OK(close(copy));
  EQ(epoll_wait(e, out, 4, 0), 0);
}
TEST(nested) {
  int a = OK(epoll_create1(0)), b = OK(epoll_create1(0)), v = OK(eventfd(0, 0));
  struct epoll_event x = event(EPOLLIN, 1), out[2];
  OK(epoll_ctl(b, EPOLL_CTL_ADD, v, &x));
  OK(epoll_ctl(a, EPOLL_CTL_ADD, b, &x));
  ERR(epoll_ctl(b, EPOLL_CTL_ADD, a, &x), ELOOP);
  EQ(epoll_wait(a, out, 2, 0), 0);
  EQ(eventfd_write(v, 1), 0);
  EQ(epoll_wait(a, out, 2, 100), 1);
  struct pollfd f = {a, POLLIN, 0};
  EQ(poll(&f, 1, 0), 1);
}
TEST(many_files) {
  int e = OK(epoll_create1(0)), v[100];
  struct epoll_event out[200];
  for (int i = 0; i < 100; i++) {
    v[i] = OK(eventfd(i % 2, EFD_NONBLOCK));
    struct epoll_event x = event(EPOLLIN, i);
    OK(epoll_ctl(e, EPOLL_CTL_ADD, v[i], &x));
  }
  EQ(epoll_wait(e, out, 200, 0), 50);
  char seen[100] = {0};
  for (int i = 0; i < 10; i++) {
    EQ(epoll_wait(e, out, 5, 0), 5);
    for (int k = 0; k < 5; k++) seen[out[k].data.u64] = 1;
  }
  int n = 0;
  for (int i = 0; i < 100; i++) n += seen[i];
  EQ(n, 50); /* round robin: none starves */
}
static void *poke(void *fd) {
  t_ms(40);
  eventfd_write((int)(long)fd, 1);
  return 0;
}
TEST(waiter_is_woken_by_thread) {
  int e = OK(epoll_create1(0)), v = OK(eventfd(0, 0));
  struct epoll_event x = event(EPOLLIN, 5), out[2];
  OK(epoll_ctl(e, EPOLL_CTL_ADD, v, &x));
  pthread_t t;
  EQ(pthread_create(&t, 0, poke, (void *)(long)v), 0);
  EQ(epoll_wait(e, out, 2, 5000), 1);
  EQ(out[0].data.u64, 5);
  pthread_join(t, 0);
}
TEST(wait_times_out) {
  int e = OK(epoll_create1(0));
  struct epoll_event out;
  int64_t t = t_now_ms();
  EQ(epoll_wait(e, &out, 1, 50), 0);
  CHECK(t_now_ms() - t >= 49);
  struct timespec ts = {0, 30000000};
  EQ(syscall(441 /* epoll_pwait2 */, e, &out, 1, &ts, 0, 0), 0);
}
TEST(eventfd_counter) {
  int v = OK(eventfd(3, EFD_NONBLOCK));
  uint64_t n;
  EQ(read(v, &n, 8), 8);
  EQ(n, 3);
  ERR(read(v, &n, 8), EAGAIN);
  n = 5;
  EQ(write(v, &n, 8), 8);
  n = 7;
  EQ(write(v, &n, 8), 8);
  EQ(read(v, &n, 8), 8);
  EQ(n, 12);
  n = UINT64_MAX;
  ERR(write(v, &n, 8), EINVAL);
  n = UINT64_MAX - 1;
  EQ(write(v, &n, 8), 8);
  n = 1;
  ERR(write(v, &n, 8), EAGAIN);
  struct pollfd f = {v, POLLIN | POLLOUT, 0};
  EQ(poll(&f, 1, 0), 1);
  EQ(f.revents, POLLIN);
  ERR(read(v, &n, 4), EINVAL);
  ERR(eventfd(0, 0x10), EINVAL);
}
TEST(eventfd_semaphore) {
  int v = OK(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
  uint64_t n;
  EQ(read(v, &n, 8), 8);
  EQ(n, 1);
  EQ(read(v, &n, 8), 8);
  ERR(read(v, &n, 8), EAGAIN);
}
TEST(eventfd_between_processes) {
  int a = OK(eventfd(0, 0)), b = OK(eventfd(0, 0));
  pid_t c = CHILD({
    uint64_t n;
    for (int i = 0; i < 200; i++) {
      EQ(read(a, &n, 8), 8);
      n = 1;
      EQ(write(b, &n, 8), 8);
    }
  });
  uint64_t n;
  for (int i = 0; i < 200; i++) {
    n = 1;
    EQ(write(a, &n, 8), 8);
    EQ(read(b, &n, 8), 8);
  }
  JOIN(c);
}
TEST(timerfd_once) {
  int t = OK(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  struct itimerspec s = {{0, 0}, {0, 40000000}}, got;
  int64_t start = t_now_ms();
  OK(timerfd_settime(t, 0, &s, 0));
  OK(timerfd_gettime(t, &got));
  CHECK(got.it_value.tv_sec == 0 && got.it_value.tv_nsec > 0);
  uint64_t n;
  EQ(read(t, &n, 8), 8);
  EQ(n, 1);
  CHECK(t_now_ms() - start >= 39);
  OK(timerfd_gettime(t, &got));
  EQ(got.it_value.tv_sec + got.it_value.tv_nsec, 0);
}
TEST(timerfd_interval) {
  int t = OK(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
  uint64_t n;
  ERR(read(t, &n, 8), EAGAIN);
  struct itimerspec s = {{0, 10000000}, {0, 10000000}}, old;
  OK(timerfd_settime(t, 0, &s, 0));
  t_ms(105);
  EQ(read(t, &n, 8), 8);
  CHECK(n >= 9 && n < 300);
  struct pollfd f = {t, POLLIN, 0};
  EQ(poll(&f, 1, 2000), 1);
  struct itimerspec off = {{0, 0}, {0, 0}};
  OK(timerfd_settime(t, 0, &off, &old));
  EQ(old.it_interval.tv_nsec, 10000000);
  ERR(read(t, &n, 8), EAGAIN);
}
TEST(timerfd_absolute) {
  int t = OK(timerfd_create(CLOCK_MONOTONIC, 0));
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  struct itimerspec s = {{0, 0}, {now.tv_sec - 1, 0}};
  OK(timerfd_settime(t, TFD_TIMER_ABSTIME, &s, 0));
  uint64_t n;
  EQ(read(t, &n, 8), 8); /* in the past: at once */
  EQ(n, 1);
  ERR(timerfd_create(77, 0), EINVAL);
  ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
  s.it_value.tv_nsec = -1;
  ERR(timerfd_settime(t, 0, &s, 0), EINVAL);
}
TEST(signalfd_reads) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  sigaddset(&s, SIGUSR2);
  OK(sigprocmask(SIG_BLOCK, &s, 0));
  int f = OK(signalfd(-1, &s, SFD_NONBLOCK | SFD_CLOEXEC));
  struct signalfd_siginfo i[3];
  ERR(read(f, i, sizeof i), EAGAIN);
  OK(kill(getpid(), SIGUSR2));
  union sigval v = {.sival_int = 77};
  OK(sigqueue(getpid(), SIGUSR1, v));
  struct pollfd p = {f, POLLIN, 0};
  EQ(poll(&p, 1, 0), 1);
  EQ(read(f, i, sizeof i), 2 * sizeof *i);
  EQ(i[0].ssi_signo, SIGUSR1);
  EQ(i[0].ssi_code, SI_QUEUE);
  EQ(i[0].ssi_int, 77);
  EQ(i[1].ssi_signo, SIGUSR2);
  EQ(i[1].ssi_pid, getpid());
  ERR(read(f, i, 10), EINVAL);
  sigdelset(&s, SIGUSR1);
  EQ(signalfd(f, &s, 0), f); /* changes the mask */
  OK(raise(SIGUSR1));
  ERR(read(f, i, sizeof i), EAGAIN);
}
TEST(signalfd_child) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, SIGCHLD);
  OK(sigprocmask(SIG_BLOCK, &s, 0));
  int f = OK(signalfd(-1, &s, 0)), e = OK(epoll_create1(0));
  struct epoll_event x = event(EPOLLIN, 1), out;
  OK(epoll_ctl(e, EPOLL_CTL_ADD, f, &x));
  pid_t c = CHILD({ _exit(9); });
  EQ(epoll_wait(e, &out, 1, 5000), 1);
  struct signalfd_siginfo i;
  EQ(read(f, &i, sizeof i), sizeof i);
  EQ(i.ssi_signo, SIGCHLD);
  EQ(i.ssi_pid, c);
  EQ(i.ssi_status, 9);
  EQ(i.ssi_code, CLD_EXITED);
  JOIN_STATUS(c, 9);
}
