/* Pipes and FIFOs. */
#include "t.h"

TEST(order_and_eof) {
  int p[2];
  OK(pipe(p));
  EQ(write(p[1], "abc", 3), 3);
  char b[8] = {0};
  EQ(read(p[0], b, 2), 2);
  EQ(read(p[0], b, 8), 1);
  OK(close(p[1]));
  EQ(read(p[0], b, 8), 0);
}
TEST(broken_pipe) {
  int p[2];
  OK(pipe(p));
  OK(close(p[0]));
  pid_t c = CHILD(write(p[1], "x", 1));
  JOIN_SIGNAL(c, SIGPIPE);
  signal(SIGPIPE, SIG_IGN);
  ERR(write(p[1], "x", 1), EPIPE);
}
TEST(nonblocking) {
  int p[2];
  OK(pipe2(p, O_NONBLOCK | O_CLOEXEC));
  EQ(fcntl(p[0], F_GETFD), FD_CLOEXEC);
  char b[4096];
  ERR(read(p[0], b, 1), EAGAIN);
  long total = 0;
  ssize_t n;
  while ((n = write(p[1], b, sizeof b)) > 0) total += n;
  EQ(errno, EAGAIN);
  EQ(total, 65536);
  EQ(read(p[0], b, 4095), 4095);
  ERR(write(p[1], b, sizeof b), EAGAIN); /* atomic up to PIPE_BUF */
  EQ(read(p[0], b, 1), 1);
  EQ(write(p[1], b, sizeof b), sizeof b);
  ERR(pipe2(p, 0x10), EINVAL);
}
TEST(size_and_pending) {
  int p[2], n;
  OK(pipe(p));
  EQ(fcntl(p[0], F_GETPIPE_SZ), 65536);
  EQ(fcntl(p[0], F_SETPIPE_SZ, 8192), 8192);
  EQ(fcntl(p[1], F_GETPIPE_SZ), 8192);
  EQ(write(p[1], "abcde", 5), 5);
  OK(ioctl(p[0], FIONREAD, &n));
  EQ(n, 5);
}
TEST(blocking_reader_is_woken) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    char b;
    EQ(read(p[0], &b, 1), 1);
    EQ(b, 'z');
  });
  t_ms(50);
  EQ(write(p[1], "z", 1), 1);
  JOIN(c);
}
TEST(blocking_writer_is_woken) {
  int p[2];
  OK(pipe(p));
  pid_t c = CHILD({
    static char b[200000];
    EQ(write(p[1], b, sizeof b), sizeof b);
  });
  OK(close(p[1]));
  static char b[10000];
  long total = 0, n;
  while ((n = OK(read(p[0], b, sizeof b))) > 0) total += n;
  EQ(total, 200000);
  JOIN(c);
}
TEST(many_writers_stay_whole) {
  int p[2];
  OK(pipe(p));
  pid_t c[4];
  for (int i = 0; i < 4; i++)
    c[i] = CHILD({
      char b[512];
      memset(b, 'a' + i, sizeof b);
      for (int k = 0; k < 100; k++) EQ(write(p[1], b, sizeof b), sizeof b);
    });
  OK(close(p[1]));
  char b[512];
  int blocks = 0;
  for (;;) {
    size_t got = 0;
    while (got < sizeof b) {
      ssize_t n = OK(read(p[0], b + got, sizeof b - got));
      if (!n) break;
      got += n;
    }
    if (!got) break;
    EQ(got, sizeof b);
    for (unsigned k = 1; k < sizeof b; k++) EQ(b[k], b[0]);
    blocks++;
  }
  EQ(blocks, 400);
  for (int i = 0; i < 4; i++) JOIN(c[i]);
}
TEST(fifo_meeting) {
  t_in_folder();
  OK(mkfifo("f", 0600));
  pid_t c = CHILD({
    int w = OK(open("f", O_WRONLY));
    EQ(write(w, "hi", 2), 2);
  });
  int r = OK(open("f", O_RDONLY));
  char b[4];
  EQ(read(r, b, 4), 2);
  EQ(read(r, b, 4), 0);
  JOIN(c);
}
TEST(fifo_without_peer) {
  t_in_folder();
  OK(mkfifo("f", 0600));
  ERR(open("f", O_WRONLY | O_NONBLOCK), ENXIO);
  int r = OK(open("f", O_RDONLY | O_NONBLOCK));
  char b;
  EQ(read(r, &b, 1), 0);
  int w = OK(open("f", O_WRONLY | O_NONBLOCK));
  ERR(read(r, &b, 1), EAGAIN);
  EQ(write(w, "x", 1), 1);
  EQ(read(r, &b, 1), 1);
  int both = OK(open("f", O_RDWR));
  OK(close(w));
  ERR(read(r, &b, 1), EAGAIN);
  OK(close(both));
  EQ(read(r, &b, 1), 0);
  ERR(lseek(r, 0, SEEK_SET), ESPIPE);
}
TEST(fifo_open_interrupted) {
  t_in_folder();
  OK(mkfifo("f", 0600));
  pid_t c = CHILD({ open("f", O_RDONLY); });
  t_ms(50);
  OK(kill(c, SIGTERM));
  JOIN_SIGNAL(c, SIGTERM);
}
TEST(splice_and_tee) {
  t_in_folder();
  int a[2], b[2];
  OK(pipe(a));
  OK(pipe(b));
  EQ(write(a[1], "abcdef", 6), 6);
  ssize_t n = tee(a[0], b[1], 4, 0);
  if (n < 0 && (errno == ENOSYS || errno == EINVAL)) SKIP("no tee");
  EQ(n, 4);
  char c[8];
  EQ(read(b[0], c, 8), 4);
  CHECK(!memcmp(c, "abcd", 4));
  EQ(splice(a[0], 0, b[1], 0, 6, 0), 6);
  EQ(read(b[0], c, 8), 6);
  t_write_file("f", "0123456789");
  int f = OK(open("f", O_RDONLY));
  loff_t at = 3;
  EQ(splice(f, &at, a[1], 0, 4, 0), 4);
  EQ(at, 7);
  EQ(read(a[0], c, 8), 4);
  CHECK(!memcmp(c, "3456", 4));
}
TEST(pipe_through_proc_fd) {
  int p[2];
  OK(pipe(p));
  char n[64];
  snprintf(n, sizeof n, "/proc/self/fd/%d", p[1]);
  int w = OK(open(n, O_WRONLY));
  EQ(write(w, "x", 1), 1);
  char b;
  EQ(read(p[0], &b, 1), 1);
  char l[64] = {0};
  OK(readlink(n, l, sizeof l - 1));
  CHECK(!strncmp(l, "pipe:[", 6));
  struct stat s, t;
  OK(fstat(p[0], &s));
  OK(fstat(p[1], &t));
  CHECK(S_ISFIFO(s.st_mode) && s.st_ino == t.st_ino);
}
TEST(pipe_whose_other_side_is_gone_opens_again) {
  int p[2];
  OK(pipe(p));
  EQ(write(p[1], "last", 4), 4);
  OK(close(p[1]));
  char n[64], b[8];
  snprintf(n, sizeof n, "/dev/fd/%d", p[0]);
  int r = OK(open(n, O_RDONLY));
  EQ(read(r, b, 8), 4);
  EQ(read(r, b, 8), 0);
}
TEST(copies_of_the_write_end_keep_it_open) {
  int p[2];
  OK(pipe2(p, O_NONBLOCK));
  pid_t c = CHILD({ pause(); });
  OK(close(p[1]));
  char b;
  ERR(read(p[0], &b, 1), EAGAIN);
  OK(kill(c, SIGKILL));
  JOIN_SIGNAL(c, SIGKILL);
  EQ(read(p[0], &b, 1), 0);
}
