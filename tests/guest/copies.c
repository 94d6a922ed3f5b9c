/* Bytes moved inside the kernel: sendfile, splice, tee, vmsplice, copy_file_range. */
#include "t.h"
#include <sys/sendfile.h>

static char big[200000];
static void fill(void) {
  for (unsigned i = 0; i < sizeof big; i++) big[i] = i * 7 + i / 251;
}

TEST(sendfile_forms) {
  t_in_folder();
  t_write_file("a", "0123456789");
  int a = OK(open("a", O_RDONLY)), b = OK(open("b", O_RDWR | O_CREAT, 0644)), p[2], s[2];
  EQ(sendfile(b, a, 0, 4), 4);
  EQ(lseek(a, 0, SEEK_CUR), 4);
  off_t at = 2;
  EQ(sendfile(b, a, &at, 100), 8);
  EQ(at, 10);
  EQ(lseek(a, 0, SEEK_CUR), 4);
  STREQ(t_read_file("b"), "012323456789");
  EQ(sendfile(b, a, &at, 10), 0);
  at = -1;
  ERR(sendfile(b, a, &at, 1), EINVAL);
  ERR(sendfile(b, a, (off_t *)8, 1), EFAULT);
  ERR(sendfile(a, b, 0, 1), EBADF);
  ERR(sendfile(99, a, 0, 1), EBADF);
  OK(pipe(p));
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  at = 0;
  EQ(sendfile(p[1], a, &at, 10), 10);
  at = 0;
  EQ(sendfile(s[0], a, &at, 10), 10);
  char t[16] = {0};
  EQ(read(p[0], t, 16), 10);
  STREQ(t, "0123456789");
  EQ(read(s[1], t, 16), 10);
  at = 0;
  ERR(sendfile(b, p[0], &at, 1), ESPIPE);
  int append = OK(open("b", O_WRONLY | O_APPEND));
  ERR(sendfile(append, a, 0, 1), EINVAL);
  EQ(sendfile(b, a, 0, 0), 0);
}
TEST(sendfile_to_slow_reader) {
  t_in_folder();
  fill();
  int a = OK(open("a", O_RDWR | O_CREAT, 0644)), s[2];
  EQ(write(a, big, sizeof big), sizeof big);
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  pid_t child = CHILD(close(s[0]); static char in[sizeof big]; size_t n = 0;
      while (n < sizeof in) { ssize_t r = OK(read(s[1], in + n, 3000)); CHECK(r > 0); n += r; }
      EQ(memcmp(in, big, sizeof big), 0));
  off_t at = 0;
  while (at < (off_t)sizeof big) CHECK(sendfile(s[0], a, &at, sizeof big) > 0);
  JOIN(child);
}
TEST(splice_forms) {
  t_in_folder();
  t_write_file("a", "0123456789");
  int a = OK(open("a", O_RDONLY)), b = OK(open("b", O_RDWR | O_CREAT, 0644)), p[2], q[2];
  OK(pipe(p));
  OK(pipe(q));
  loff_t at = 3;
  EQ(splice(a, &at, p[1], 0, 4, 0), 4);
  EQ(at, 7);
  EQ(lseek(a, 0, SEEK_CUR), 0);
  EQ(splice(a, 0, p[1], 0, 2, SPLICE_F_MOVE), 2);
  EQ(lseek(a, 0, SEEK_CUR), 2);
  EQ(splice(p[0], 0, q[1], 0, 3, 0), 3);
  at = 1;
  EQ(splice(q[0], 0, b, &at, 100, 0), 3);
  EQ(at, 4);
  EQ(splice(p[0], 0, b, 0, 100, 0), 3);
  char t[16] = {0};
  EQ(pread(b, t, 16, 0), 4);
  EQ(memcmp(t, "6015", 4), 0);
  ERR(splice(p[0], &at, b, 0, 1, 0), ESPIPE);
  ERR(splice(a, 0, b, 0, 1, 0), EINVAL);
  ERR(splice(p[0], 0, q[1], 0, 1, SPLICE_F_NONBLOCK), EAGAIN);
  ERR(splice(p[0], 0, q[1], 0, 1, 64), EINVAL);
  ERR(splice(p[0], 0, p[1], 0, 1, 0), EINVAL);
  ERR(splice(p[1], 0, b, 0, 1, 0), EBADF);
  ERR(splice(99, 0, b, 0, 1, 0), EBADF);
  EQ(splice(p[0], 0, b, 0, 0, 0), 0);
  at = 100;
  EQ(splice(a, &at, p[1], 0, 5, 0), 0);
  OK(close(p[1]));
  EQ(splice(p[0], 0, b, 0, 1, 0), 0);
  OK(close(q[0]));
  signal(SIGPIPE, SIG_IGN);
  at = 0;
  ERR(splice(a, &at, q[1], 0, 1, 0), EPIPE);
}
TEST(splice_with_sockets) {
  int p[2], s[2], u[2];
  OK(pipe(p));
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  OK(socketpair(AF_UNIX, SOCK_STREAM, 0, u));
  EQ(write(s[0], "across", 6), 6);
  EQ(splice(s[1], 0, p[1], 0, 100, 0), 6);
  EQ(splice(p[0], 0, u[0], 0, 100, 0), 6);
  char t[16] = {0};
  EQ(read(u[1], t, 16), 6);
  STREQ(t, "across");
  OK(close(s[0]));
  EQ(splice(s[1], 0, p[1], 0, 100, 0), 0);
}
TEST(splice_waits) {
  int p[2], q[2];
  OK(pipe(p));
  OK(pipe(q));
  pid_t child = CHILD(t_ms(100); EQ(write(p[1], "late", 4), 4));
  EQ(splice(p[0], 0, q[1], 0, 10, 0), 4);
  JOIN(child);
  char t[8] = {0};
  EQ(read(q[0], t, 8), 4);
  STREQ(t, "late");
}
TEST(tee_and_vmsplice) {
  int p[2], q[2];
  OK(pipe(p));
  OK(pipe(q));
  struct iovec v[2] = {{"abc", 3}, {"defg", 4}};
  EQ(vmsplice(p[1], v, 2, 0), 7);
  EQ(tee(p[0], q[1], 5, 0), 5);
  char t[16] = {0};
  EQ(read(p[0], t, 16), 7);
  STREQ(t, "abcdefg");
  memset(t, 0, 16);
  EQ(read(q[0], t, 16), 5);
  STREQ(t, "abcde");
  ERR(tee(p[0], q[1], 5, SPLICE_F_NONBLOCK), EAGAIN);
  ERR(tee(p[0], p[1], 5, 0), EINVAL);
  ERR(tee(0, q[1], 5, 64), EINVAL);
  EQ(write(p[1], "xyz", 3), 3);
  struct iovec in[2] = {{t, 1}, {t + 8, 8}};
  EQ(vmsplice(p[0], in, 2, 0), 3);
  EQ(t[0], 'x');
  EQ(t[8], 'y');
  OK(close(p[1]));
  EQ(tee(p[0], q[1], 5, 0), 0);
}
TEST(copy_range) {
  t_in_folder();
  t_write_file("a", "0123456789");
  int a = OK(open("a", O_RDWR)), b = OK(open("b", O_RDWR | O_CREAT, 0644)), p[2];
  OK(pipe(p));
  EQ(copy_file_range(a, 0, b, 0, 4, 0), 4);
  loff_t from = 8, to = 6;
  EQ(copy_file_range(a, &from, b, &to, 100, 0), 2);
  EQ(from, 10);
  EQ(to, 8);
  EQ(lseek(a, 0, SEEK_CUR), 4);
  char t[16] = {0};
  EQ(pread(b, t, 16, 0), 8);
  EQ(memcmp(t, "0123\0\00089", 8), 0);
  EQ(copy_file_range(a, &from, b, &to, 100, 0), 0);
  ERR(copy_file_range(a, 0, b, 0, 1, 1), EINVAL);
  ERR(copy_file_range(a, 0, p[1], 0, 1, 0), EINVAL);
  ERR(copy_file_range(p[0], 0, b, 0, 1, 0), EINVAL);
  int folder = OK(open(".", O_RDONLY)), append = OK(open("b", O_WRONLY | O_APPEND));
  ERR(copy_file_range(folder, 0, b, 0, 1, 0), EISDIR);
  ERR(copy_file_range(a, 0, append, 0, 1, 0), EBADF);
  ERR(copy_file_range(append, 0, a, 0, 1, 0), EBADF);
  from = 0;
  to = 2;
  ERR(copy_file_range(a, &from, a, &to, 5, 0), EINVAL); /* overlap */
  to = 5;
  EQ(copy_file_range(a, &from, a, &to, 5, 0), 5);
  STREQ(t_read_file("a"), "0123401234");
}
TEST(copy_range_is_whole) {
  t_in_folder();
  fill();
  int a = OK(open("a", O_RDWR | O_CREAT, 0644)), b = OK(open("b", O_RDWR | O_CREAT, 0644));
  EQ(write(a, big, sizeof big), sizeof big);
  loff_t from = 0, to = 0;
  while (from < (loff_t)sizeof big) CHECK(copy_file_range(a, &from, b, &to, sizeof big, 0) > 0);
  static char in[sizeof big];
  EQ(pread(b, in, sizeof in, 0), sizeof in);
  EQ(memcmp(in, big, sizeof in), 0);
}
