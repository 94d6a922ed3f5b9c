/* poll, ppoll, select, pselect. */
#include "t.h"
#include <sys/select.h>

static void nothing(int s) { (void)s; }

TEST(poll_readiness) {
  int p[2];
  OK(pipe(p));
  struct pollfd f[3] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {-1, POLLIN, 9}};
  EQ(poll(f, 3, 0), 1);
  EQ(f[0].revents, 0);
  EQ(f[1].revents, POLLOUT);
  EQ(f[2].revents, 0);
  EQ(write(p[1], "x", 1), 1);
  EQ(poll(f, 2, -1), 2);
  EQ(f[0].revents, POLLIN);
  OK(close(p[1]));
  f[1].fd = 99;
  EQ(poll(f, 2, 0), 2);
  EQ(f[0].revents, POLLIN | POLLHUP);
  EQ(f[1].revents, POLLNVAL);
}
TEST(poll_reader_gone) {
  int p[2];
  OK(pipe(p));
  OK(close(p[0]));
  struct pollfd f = {p[1], POLLOUT, 0};
  EQ(poll(&f, 1, 0), 1);
  EQ(f.revents, POLLOUT | POLLERR);
}
TEST(poll_timeout) {
  int p[2];
  OK(pipe(p));
  struct pollfd f = {p[0], POLLIN, 0};
  int64_t t = t_now_ms();
  EQ(poll(&f, 1, 60), 0);
  t = t_now_ms() - t;
  CHECK(t >= 59 && t < 2000);
  EQ(poll(0, 0, 20), 0);
}
TEST(poll_is_woken) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    t_ms(40);
    EQ(write(p[1], "x", 1), 1);
  });
  struct pollfd f = {p[0], POLLIN, 0};
  EQ(poll(&f, 1, 5000), 1);
  EQ(f.revents, POLLIN);
  JOIN(c);
}
TEST(poll_interrupted) {
  struct sigaction a = {.sa_handler = nothing, .sa_flags = SA_RESTART};
  OK(sigaction(SIGALRM, &a, 0));
  ualarm(30000, 0);
  ERR(poll(0, 0, 5000), EINTR); /* never restarted after a handler */
}
TEST(ppoll_mask) {
  struct sigaction a = {.sa_handler = nothing};
  OK(sigaction(SIGUSR1, &a, 0));
  sigset_t s, none;
  sigemptyset(&none);
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  OK(sigprocmask(SIG_BLOCK, &s, 0));
  OK(raise(SIGUSR1));
  struct timespec t = {5, 0};
  ERR(ppoll(0, 0, &t, &none), EINTR);
  sigset_t now;
  OK(sigprocmask(0, 0, &now));
  CHECK(sigismember(&now, SIGUSR1));
  t.tv_sec = 0;
  EQ(ppoll(0, 0, &t, 0), 0);
  t.tv_nsec = 1000000000;
  ERR(ppoll(0, 0, &t, 0), EINVAL);
}
TEST(poll_regular_file) {
  t_in_folder();
  int fd = OK(open("a", O_CREAT | O_RDWR, 0600));
  struct pollfd f = {fd, POLLIN | POLLOUT, 0};
  EQ(poll(&f, 1, 0), 1);
  EQ(f.revents, POLLIN | POLLOUT);
  ERR(poll(&f, 1u << 30, 0), EINVAL);
  ERR(poll((void *)8, 1, 0), EFAULT);
}
TEST(select_basic) {
  int p[2];
  OK(pipe(p));
  fd_set r, w;
  FD_ZERO(&r);
  FD_ZERO(&w);
  FD_SET(p[0], &r);
  FD_SET(p[1], &w);
  struct timeval t = {0, 50000};
  EQ(select(p[1] + 1, &r, 0, 0, &t), 0);
  CHECK(!FD_ISSET(p[0], &r));
  EQ(t.tv_sec + t.tv_usec, 0);
  FD_SET(p[0], &r);
  EQ(select(p[1] + 1, &r, &w, 0, 0), 1);
  CHECK(FD_ISSET(p[1], &w) && !FD_ISSET(p[0], &r));
  EQ(write(p[1], "x", 1), 1);
  FD_SET(p[0], &r);
  EQ(select(p[1] + 1, &r, &w, 0, 0), 2);
  OK(close(p[1]));
  FD_SET(p[1], &w);
  ERR(select(p[1] + 1, &r, &w, 0, 0), EBADF);
  ERR(select(-1, 0, 0, 0, 0), EINVAL);
  t.tv_sec = -1;
  ERR(select(0, 0, 0, 0, &t), EINVAL);
}
TEST(select_remaining_time) {
  int p[2];
  OK(pipe(p));
  EQ(write(p[1], "x", 1), 1);
  fd_set r;
  FD_ZERO(&r);
  FD_SET(p[0], &r);
  struct timeval t = {100, 0};
  EQ(select(p[0] + 1, &r, 0, 0, &t), 1);
  CHECK(t.tv_sec == 99 || t.tv_sec == 100);
}
TEST(pselect_mask) {
  struct sigaction a = {.sa_handler = nothing};
  OK(sigaction(SIGUSR1, &a, 0));
  sigset_t s, none;
  sigemptyset(&none);
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  OK(sigprocmask(SIG_BLOCK, &s, 0));
  OK(kill(getpid(), SIGUSR1));
  struct timespec t = {5, 0};
  ERR(pselect(0, 0, 0, 0, &t, &none), EINTR);
  EQ(t.tv_sec, 5);
}
