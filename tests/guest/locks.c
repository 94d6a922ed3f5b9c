/* flock and POSIX record locks, leases left out. */
#include "t.h"
#include <sys/file.h>

static struct flock range(short kind, off_t from, off_t n) { return (struct flock){.l_type = kind, .l_whence = SEEK_SET, .l_start = from, .l_len = n}; }

TEST(flock_between_descriptions) {
  t_in_folder();
  int a = OK(open("f", O_RDWR | O_CREAT, 0600)), b = OK(open("f", O_RDWR));
  OK(flock(a, LOCK_EX));
  ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  ERR(flock(b, LOCK_SH | LOCK_NB), EWOULDBLOCK);
  int d = OK(dup(a));
  OK(flock(d, LOCK_EX | LOCK_NB)); /* the same description */
  OK(flock(a, LOCK_SH));
  OK(flock(b, LOCK_SH | LOCK_NB));
  ERR(flock(a, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  OK(flock(b, LOCK_UN));
  OK(flock(a, LOCK_EX | LOCK_NB));
  OK(close(a));
  ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK); /* d still holds it */
  OK(close(d));
  OK(flock(b, LOCK_EX | LOCK_NB));
  ERR(flock(b, LOCK_SH | LOCK_EX), EINVAL);
  ERR(flock(99, LOCK_SH), EBADF);
}
TEST(flock_blocks_and_wakes) {
  t_in_folder();
  int a = OK(open("f", O_RDWR | O_CREAT, 0600));
  OK(flock(a, LOCK_EX));
  int64_t t = t_now_ms();
  pid_t c = CHILD({
    OK(close(a));
    int b = OK(open("f", O_RDWR));
    OK(flock(b, LOCK_EX));
    CHECK(t_now_ms() - t >= 50);
  });
  t_ms(60);
  OK(flock(a, LOCK_UN));
  JOIN(c);
}
TEST(flock_survives_fork_and_dies_with_the_last) {
  t_in_folder();
  int a = OK(open("f", O_RDWR | O_CREAT, 0600)), b = OK(open("f", O_RDWR));
  OK(flock(a, LOCK_EX));
  pid_t c = CHILD(pause());
  OK(close(a));
  ERR(flock(b, LOCK_EX | LOCK_NB), EWOULDBLOCK);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
  OK(flock(b, LOCK_EX | LOCK_NB));
}
TEST(posix_between_processes) {
  t_in_folder();
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
  struct flock l = range(F_WRLCK, 10, 10);
  OK(fcntl(fd, F_SETLK, &l));
  OK(fcntl(fd, F_SETLK, &l)); /* mine already */
  pid_t me = getpid(), c = CHILD({
    struct flock t = range(F_RDLCK, 15, 1);
    ERR(fcntl(fd, F_SETLK, &t), EAGAIN);
    OK(fcntl(fd, F_GETLK, &t));
    EQ(t.l_type, F_WRLCK);
    EQ(t.l_start, 10);
    EQ(t.l_len, 10);
    EQ(t.l_pid, me);
    t = range(F_WRLCK, 20, 5);
    OK(fcntl(fd, F_SETLK, &t));
    t = range(F_WRLCK, 0, 10);
    OK(fcntl(fd, F_GETLK, &t));
    EQ(t.l_type, F_UNLCK);
  });
  JOIN(c);
}
TEST(posix_splitting_and_merging) {
  t_in_folder();
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
  struct flock l = range(F_WRLCK, 0, 100);
  OK(fcntl(fd, F_SETLK, &l));
  l = range(F_UNLCK, 40, 20);
  OK(fcntl(fd, F_SETLK, &l));
  l = range(F_RDLCK, 60, 10);
  OK(fcntl(fd, F_SETLK, &l));
  pid_t c = CHILD({
    struct flock t = range(F_WRLCK, 40, 20);
    OK(fcntl(fd, F_SETLK, &t));
    t = range(F_WRLCK, 39, 1);
    ERR(fcntl(fd, F_SETLK, &t), EAGAIN);
    t = range(F_RDLCK, 60, 10);
    OK(fcntl(fd, F_SETLK, &t));
    t = range(F_RDLCK, 70, 1);
    ERR(fcntl(fd, F_SETLK, &t), EAGAIN);
    t = range(F_WRLCK, 100, 0);
    OK(fcntl(fd, F_SETLK, &t));
  });
  JOIN(c);
}
TEST(posix_dies_on_any_close) {
  t_in_folder();
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600));
  struct flock l = range(F_WRLCK, 0, 0);
  OK(fcntl(fd, F_SETLK, &l));
  OK(close(OK(open("f", O_RDONLY))));
  pid_t c = CHILD({
    struct flock t = range(F_WRLCK, 0, 0);
    OK(fcntl(fd, F_SETLK, &t));
  });
  JOIN(c);
}
TEST(posix_waits_and_is_not_inherited) {
  t_in_folder();
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600)), p[2];
  OK(pipe(p));
  struct flock l = range(F_WRLCK, 0, 1);
  OK(fcntl(fd, F_SETLK, &l));
  pid_t c = CHILD({
    struct flock t = range(F_WRLCK, 0, 1);
    ERR(fcntl(fd, F_SETLK, &t), EAGAIN);
    EQ(write(p[1], "x", 1), 1);
    OK(fcntl(fd, F_SETLKW, &t));
  });
  char b;
  EQ(read(p[0], &b, 1), 1);
  t_ms(40);
  l.l_type = F_UNLCK;
  OK(fcntl(fd, F_SETLK, &l));
  JOIN(c);
}
TEST(posix_deadlock_is_found) {
  t_in_folder();
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600)), p[2];
  OK(pipe(p));
  struct flock l = range(F_WRLCK, 0, 1);
  OK(fcntl(fd, F_SETLK, &l));
  pid_t c = CHILD({
    struct flock t = range(F_WRLCK, 1, 1);
    OK(fcntl(fd, F_SETLK, &t));
    EQ(write(p[1], "x", 1), 1);
    t = range(F_WRLCK, 0, 1);
    OK(fcntl(fd, F_SETLKW, &t));
  });
  char b;
  EQ(read(p[0], &b, 1), 1);
  t_ms(60);
  l = range(F_WRLCK, 1, 1);
  ERR(fcntl(fd, F_SETLKW, &l), EDEADLK);
  l = range(F_UNLCK, 0, 0);
  OK(fcntl(fd, F_SETLK, &l));
  JOIN(c);
}
static void nothing(int s) { (void)s; }
TEST(posix_wait_is_interrupted) {
  t_in_folder();
  int fd = OK(open("f", O_RDWR | O_CREAT, 0600)), p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    struct flock t = range(F_WRLCK, 0, 1);
    OK(fcntl(fd, F_SETLK, &t));
    EQ(write(p[1], "x", 1), 1);
    pause();
  });
  char b;
  EQ(read(p[0], &b, 1), 1);
  struct sigaction a = {.sa_handler = nothing};
  OK(sigaction(SIGALRM, &a, 0));
  ualarm(40000, 0);
  struct flock l = range(F_WRLCK, 0, 1);
  ERR(fcntl(fd, F_SETLKW, &l), EINTR);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
  OK(fcntl(fd, F_SETLK, &l));
}
TEST(posix_bad_arguments) {
  t_in_folder();
  int w = OK(open("f", O_WRONLY | O_CREAT, 0600)), r = OK(open("f", O_RDONLY));
  struct flock l = range(F_RDLCK, 0, 1);
  ERR(fcntl(w, F_SETLK, &l), EBADF);
  l.l_type = F_WRLCK;
  ERR(fcntl(r, F_SETLK, &l), EBADF);
  l.l_type = 9;
  ERR(fcntl(w, F_SETLK, &l), EINVAL);
  l = range(F_WRLCK, -5, 1);
  ERR(fcntl(w, F_SETLK, &l), EINVAL);
  l = range(F_WRLCK, 5, -3);
  OK(fcntl(w, F_SETLK, &l)); /* bytes 2 to 4 */
  ERR(fcntl(w, F_SETLK, (void *)8), EFAULT);
}
TEST(open_file_description_locks) {
  t_in_folder();
  int a = OK(open("f", O_RDWR | O_CREAT, 0600)), b = OK(open("f", O_RDWR));
  struct flock l = range(F_WRLCK, 0, 0);
  if (fcntl(a, F_OFD_SETLK, &l) < 0 && errno == EINVAL) SKIP("no OFD locks");
  ERR(fcntl(b, F_OFD_SETLK, &l), EAGAIN);
  ERR(fcntl(b, F_SETLK, &l), EAGAIN);
  OK(close(a));
  OK(fcntl(b, F_OFD_SETLK, &l));
}
