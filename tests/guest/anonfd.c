/* Edges of eventfd, timerfd, signalfd; memfd and its seals; pidfd readiness. */
#include "t.h"
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#define MFD_EXEC 16
#endif

TEST(eventfd_edges) {
  ERR(eventfd(0, 1 << 20), EINVAL);
  int fd = OK(eventfd(7, EFD_NONBLOCK));
  uint64_t v = ~0ull;
  ERR(write(fd, &v, 8), EINVAL);
  ERR(write(fd, &v, 7), EINVAL);
  ERR(read(fd, &v, 7), EINVAL);
  v = ~0ull - 1 - 7;
  EQ(write(fd, &v, 8), 8); /* to the brim */
  v = 1;
  ERR(write(fd, &v, 8), EAGAIN);
  v = 0;
  EQ(write(fd, &v, 8), 8);
  struct pollfd p = {fd, POLLIN | POLLOUT, 0};
  EQ(poll(&p, 1, 0), 1);
  EQ(p.revents, POLLIN);
  uint64_t b[2] = {0, 5};
  EQ(read(fd, b, 16), 8);
  EQ(b[0], ~0ull - 1);
  EQ(b[1], 5);
  ERR(read(fd, b, 8), EAGAIN);
  EQ(poll(&p, 1, 0), 1);
  EQ(p.revents, POLLOUT);
  ERR(pread(fd, b, 8, 0), ESPIPE);
  OK(lseek(fd, 0, SEEK_SET));
  ERR(ftruncate(fd, 0), EINVAL);
  struct stat s;
  OK(fstat(fd, &s));
  EQ(s.st_mode, 0600);
  char link[64] = {0};
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  char target[64] = {0};
  OK(readlink(link, target, sizeof target - 1));
  STREQ(target, "anon_inode:[eventfd]");
  ERR(open(link, O_RDWR), ENXIO);
}
TEST(eventfd_writer_blocks) {
  int fd = OK(eventfd(0, 0));
  uint64_t v = ~0ull - 1;
  EQ(write(fd, &v, 8), 8);
  pid_t child = CHILD(t_ms(100); uint64_t w; EQ(read(fd, &w, 8), 8));
  v = 3;
  EQ(write(fd, &v, 8), 8);
  JOIN(child);
  EQ(read(fd, &v, 8), 8);
  EQ(v, 3);
}
TEST(timerfd_edges) {
  ERR(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
  ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
  int fd = OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  struct itimerspec t = {{0, 0}, {0, 1000000000}}, old;
  ERR(timerfd_settime(fd, 0, &t, 0), EINVAL);
  t.it_value.tv_nsec = -1;
  ERR(timerfd_settime(fd, 0, &t, 0), EINVAL);
  t = (struct itimerspec){{0, 0}, {100, 0}};
  ERR(timerfd_settime(fd, 64, &t, 0), EINVAL);
  ERR(timerfd_settime(0, 0, &t, 0), EINVAL);
  ERR(timerfd_settime(99, 0, &t, 0), EBADF);
  uint64_t n;
  ERR(read(fd, &n, 8), EAGAIN);
  OK(timerfd_gettime(fd, &old));
  EQ(old.it_value.tv_sec + old.it_value.tv_nsec, 0);
  OK(timerfd_settime(fd, 0, &t, &old));
  EQ(old.it_value.tv_sec, 0);
  OK(timerfd_gettime(fd, &old));
  EQ(old.it_value.tv_sec, 99);
  t = (struct itimerspec){{0, 5000000}, {0, 1}};
  OK(timerfd_settime(fd, 0, &t, &old));
  EQ(old.it_value.tv_sec, 99);
  t_ms(60);
  ERR(read(fd, &n, 4), EINVAL);
  struct pollfd p = {fd, POLLIN | POLLOUT, 0};
  EQ(poll(&p, 1, 0), 1);
  EQ(p.revents, POLLIN);
  EQ(read(fd, &n, 8), 8);
  CHECK(n >= 10);
  ERR(write(fd, &n, 8), EINVAL);
  OK(timerfd_settime(fd, 0, &t, 0));
  t_ms(20);
  t = (struct itimerspec){{0, 0}, {0, 0}};
  OK(timerfd_settime(fd, 0, &t, 0)); /* what was not read is forgotten */
  ERR(read(fd, &n, 8), EAGAIN);
  t = (struct itimerspec){{0, 0}, {1, 0}};
  OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, 0)); /* long past */
  EQ(poll(&p, 1, 1000), 1);
  EQ(read(fd, &n, 8), 8);
  EQ(n, 1);
  char target[64] = {0}, link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  OK(readlink(link, target, sizeof target - 1));
  STREQ(target, "anon_inode:[timerfd]");
}
TEST(signalfd_edges) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN);
  sigaddset(&set, SIGKILL); /* silently left out */
  OK(sigprocmask(SIG_BLOCK, &set, 0));
  ERR(signalfd(-1, &set, 1), EINVAL);
  ERR(signalfd(99, &set, 0), EBADF);
  ERR(signalfd(0, &set, 0), EINVAL);
  int fd = OK(signalfd(-1, &set, SFD_NONBLOCK));
  struct signalfd_siginfo info[3];
  ERR(read(fd, info, sizeof info), EAGAIN);
  ERR(read(fd, info, sizeof info[0] - 1), EINVAL);
  OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5}));
  OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 6}));
  OK(kill(getpid(), SIGUSR1));
  struct pollfd p = {fd, POLLIN, 0};
  EQ(poll(&p, 1, 0), 1);
  EQ(read(fd, info, sizeof info), 3 * sizeof info[0]);
  EQ(info[0].ssi_signo, SIGUSR1);
  EQ(info[0].ssi_code, SI_USER);
  EQ(info[0].ssi_pid, getpid());
  EQ(info[1].ssi_int, 5);
  EQ(info[2].ssi_int, 6);
  EQ(info[2].ssi_code, SI_QUEUE);
  sigdelset(&set, SIGUSR1);
  EQ(OK(signalfd(fd, &set, 0)), fd); /* another mask */
  OK(kill(getpid(), SIGUSR1));
  EQ(poll(&p, 1, 0), 0);
  ERR(read(fd, info, sizeof info), EAGAIN);
  ERR(write(fd, info, 8), EINVAL);
  pid_t child = CHILD(union sigval v = {.sival_int = 9}; t_ms(50); OK(sigqueue(getppid(), SIGRTMIN, v)));
  EQ(poll(&p, 1, 5000), 1);
  EQ(read(fd, info, sizeof info), sizeof info[0]);
  EQ(info[0].ssi_int, 9);
  EQ(info[0].ssi_pid, child);
  JOIN(child);
}
TEST(memfd_basics) {
  ERR(memfd_create("a", 0x80), EINVAL);
  ERR(memfd_create((char *)8, 0), EFAULT);
  char name[300];
  memset(name, 'n', sizeof name);
  name[250] = 0;
  ERR(memfd_create(name, 0), EINVAL);
  name[249] = 0;
  OK(close(OK(memfd_create(name, 0))));
  int fd = OK(memfd_create("hello", MFD_CLOEXEC));
  EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  struct stat s;
  OK(fstat(fd, &s));
  EQ(s.st_mode, S_IFREG | 0777);
  EQ(s.st_nlink, 0);
  EQ(s.st_size, 0);
  EQ(write(fd, "text", 4), 4);
  char link[64], target[64] = {0};
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  OK(readlink(link, target, sizeof target - 1));
  STREQ(target, "/memfd:hello (deleted)");
  int other = OK(open(link, O_RDONLY));
  EQ(lseek(other, 0, SEEK_CUR), 0);
  EQ(read(other, target, 10), 4);
  ERR(write(other, "x", 1), EBADF);
  EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
  ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
  ERR(fcntl(0, F_GET_SEALS), EINVAL);
  OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2));
  EQ(pread(fd, target, 4, 0), 4);
  EQ(memcmp(target, "\0\0xt", 4), 0);
}
TEST(memfd_seals) {
  int fd = OK(memfd_create("s", MFD_ALLOW_SEALING));
  EQ(fcntl(fd, F_GET_SEALS), 0);
  OK(ftruncate(fd, 8192));
  ERR(fcntl(fd, F_ADD_SEALS, 0x100), EINVAL);
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
  ERR(ftruncate(fd, 4096), EPERM);
  OK(ftruncate(fd, 12288));
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
  ERR(ftruncate(fd, 16384), EPERM);
  ERR(pwrite(fd, "x", 1, 12288), EPERM);
  EQ(pwrite(fd, "xy", 2, 12287), 1); /* up to the end */
  ERR(fallocate(fd, 0, 0, 16384), EPERM);
  char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(m != MAP_FAILED);
  m[0] = 'm';
  ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
  m[1] = 'n'; /* a mapping from before may go on */
  ERR(write(fd, "x", 1), EPERM);
  EQ((long)mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), -1);
  EQ(errno, EPERM);
  OK(munmap(m, 4096));
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), EPERM);
  m = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(m != MAP_FAILED);
  EQ(m[0], 'm');
  ERR(mprotect(m, 4096, PROT_READ | PROT_WRITE), EACCES);
  OK(munmap(m, 4096));
  m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK(m != MAP_FAILED);
  m[0] = 'p';
  OK(munmap(m, 4096));
  OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
  ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
  EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
  int other = OK(open("/proc/self/fd/3", O_RDONLY));
  ERR(fcntl(other, F_ADD_SEALS, F_SEAL_GROW), EPERM);
  EQ(fcntl(other, F_GET_SEALS), fcntl(fd, F_GET_SEALS));
}
TEST(memfd_between_processes) {
  int fd = OK(memfd_create("s", 0));
  OK(ftruncate(fd, 4096));
  pid_t child = CHILD(char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); CHECK(m != MAP_FAILED); strcpy(m, "from the child"));
  JOIN(child);
  char b[32];
  EQ(pread(fd, b, 15, 0), 15);
  STREQ(b, "from the child");
}
TEST(pidfd_readiness) {
  pid_t child = CHILD(t_ms(100));
  int fd = syscall(SYS_pidfd_open, child, 0);
  if (fd < 0 && errno == ENOSYS) SKIP("no pidfd_open");
  CHECK(fd >= 0);
  struct pollfd p = {fd, POLLIN, 0};
  EQ(poll(&p, 1, 0), 0);
  EQ(poll(&p, 1, 5000), 1);
  EQ(p.revents, POLLIN);
  siginfo_t info;
  OK(waitid(P_PIDFD, fd, &info, WEXITED));
  EQ(info.si_pid, child);
  ERR(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0), ESRCH);
  ERR(syscall(SYS_pidfd_open, child, 1), EINVAL);
  ERR(syscall(SYS_pidfd_open, -1, 0), EINVAL);
}
