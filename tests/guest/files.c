/* Regular files: open flags, read and write in all forms, positions, truncation, attributes. */
#include "t.h"
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

TEST(create_write_read) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT | O_EXCL, 0640));
  EQ(write(fd, "hello world", 11), 11);
  EQ(lseek(fd, 0, SEEK_CUR), 11);
  EQ(lseek(fd, 6, SEEK_SET), 6);
  char b[16] = {0};
  EQ(read(fd, b, sizeof b), 5);
  STREQ(b, "world");
  EQ(read(fd, b, sizeof b), 0);
  struct stat s;
  OK(fstat(fd, &s));
  EQ(s.st_size, 11);
  EQ(s.st_mode, S_IFREG | 0640);
  EQ(s.st_nlink, 1);
  OK(close(fd));
  ERR(close(fd), EBADF);
  ERR(open("a", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
}
TEST(open_flags) {
  t_in_folder();
  t_write_file("a", "0123456789");
  int fd = OK(open("a", O_WRONLY | O_APPEND));
  EQ(lseek(fd, 0, SEEK_SET), 0);
  EQ(write(fd, "ab", 2), 2);
  STREQ(t_read_file("a"), "0123456789ab");
  char c;
  ERR(read(fd, &c, 1), EBADF);
  EQ(pwrite(fd, "X", 1, 0), 1); /* Linux appends all the same */
  STREQ(t_read_file("a"), "0123456789abX");
  OK(close(fd));
  fd = OK(open("a", O_RDONLY | O_TRUNC));
  EQ(read(fd, &c, 1), 0);
  ERR(write(fd, "x", 1), EBADF);
  OK(close(fd));
  ERR(open("missing", O_RDONLY), ENOENT);
  ERR(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
  ERR(open(".", O_RDWR), EISDIR);
  ERR(open("a/b", O_RDONLY), ENOTDIR);
  ERR(open("", O_RDONLY), ENOENT);
  fd = OK(open("a", O_PATH));
  ERR(read(fd, &c, 1), EBADF);
  struct stat s;
  OK(fstat(fd, &s));
  OK(close(fd));
}
TEST(tmpfile_unnamed) {
  t_in_folder();
  int fd = open(".", O_RDWR | O_TMPFILE, 0600);
  if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) SKIP("O_TMPFILE is not known here");
  CHECK(fd >= 0);
  EQ(write(fd, "x", 1), 1);
  struct stat s;
  OK(fstat(fd, &s));
  EQ(s.st_nlink, 0);
}
TEST(unlinked_file_lives) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT, 0600));
  OK(unlink("a"));
  EQ(write(fd, "gone", 4), 4);
  char b[5] = {0};
  EQ(pread(fd, b, 4, 0), 4);
  STREQ(b, "gone");
  struct stat s;
  OK(fstat(fd, &s));
  EQ(s.st_nlink, 0);
  ERR(stat("a", &s), ENOENT);
}
TEST(pread_pwrite) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT, 0600));
  EQ(pwrite(fd, "abc", 3, 100000), 3);
  struct stat s;
  OK(fstat(fd, &s));
  EQ(s.st_size, 100003);
  char b[8];
  EQ(pread(fd, b, 8, 99998), 5);
  CHECK(b[0] == 0 && b[1] == 0 && b[2] == 'a');
  EQ(lseek(fd, 0, SEEK_CUR), 0);
  ERR(pread(fd, b, 1, -1), EINVAL);
  EQ(pread(fd, b, 1, 1l << 40), 0);
}
TEST(vectors) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT, 0600));
  struct iovec w[3] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
  EQ(writev(fd, w, 3), 6);
  char x[3], y[10];
  struct iovec r[2] = {{x, 3}, {y, 10}};
  EQ(preadv(fd, r, 2, 1), 5);
  CHECK(!memcmp(x, "bcd", 3) && !memcmp(y, "ef", 2));
  EQ(pwritev(fd, w, 1, 4), 2);
  EQ(lseek(fd, 0, SEEK_SET), 0);
  EQ(readv(fd, r, 2), 6);
  CHECK(!memcmp(y, "dab", 3));
  ERR(readv(fd, r, -1), EINVAL);
  ERR(readv(fd, r, 1025), EINVAL);
  EQ(readv(fd, r, 0), 0);
  r[0].iov_len = (size_t)-1;
  ERR(readv(fd, r, 2), EINVAL);
}
TEST(seek_ends) {
  t_in_folder();
  t_write_file("a", "0123456789");
  int fd = OK(open("a", O_RDONLY));
  EQ(lseek(fd, -3, SEEK_END), 7);
  EQ(lseek(fd, -7, SEEK_CUR), 0);
  ERR(lseek(fd, -1, SEEK_SET), EINVAL);
  ERR(lseek(fd, 0, 99), EINVAL);
  EQ(lseek(fd, 1000, SEEK_SET), 1000);
  EQ(lseek(fd, 0, SEEK_DATA), 0);
  EQ(lseek(fd, 0, SEEK_HOLE), 10);
  ERR(lseek(fd, 10, SEEK_DATA), ENXIO);
  int p[2];
  OK(pipe(p));
  ERR(lseek(p[0], 0, SEEK_SET), ESPIPE);
}
TEST(truncate_both_ways) {
  t_in_folder();
  t_write_file("a", "0123456789");
  OK(truncate("a", 4));
  STREQ(t_read_file("a"), "0123");
  int fd = OK(open("a", O_RDWR));
  OK(ftruncate(fd, 6));
  char b[8];
  EQ(pread(fd, b, 8, 0), 6);
  CHECK(!memcmp(b, "0123\0\0", 6));
  ERR(ftruncate(fd, -1), EINVAL);
  ERR(truncate("missing", 0), ENOENT);
  ERR(truncate(".", 0), EISDIR);
  int r = OK(open("a", O_RDONLY));
  ERR(ftruncate(r, 0), EINVAL);
}
TEST(fallocate_modes) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT, 0600));
  OK(fallocate(fd, 0, 0, 8192));
  struct stat s;
  OK(fstat(fd, &s));
  EQ(s.st_size, 8192);
  EQ(pwrite(fd, "xxxx", 4, 4096), 4);
  OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 8192, 4096));
  OK(fstat(fd, &s));
  EQ(s.st_size, 8192);
  ERR(fallocate(fd, 0, -1, 1), EINVAL);
  ERR(fallocate(fd, 0, 0, 0), EINVAL);
}
TEST(stat_family) {
  t_in_folder();
  t_write_file("a", "abc");
  OK(symlink("a", "l"));
  struct stat s, t;
  OK(stat("l", &s));
  OK(lstat("l", &t));
  CHECK(S_ISREG(s.st_mode) && S_ISLNK(t.st_mode));
  EQ(t.st_size, 1);
  CHECK(s.st_ino != t.st_ino && s.st_dev == t.st_dev);
  int d = OK(open(".", O_RDONLY | O_DIRECTORY));
  OK(fstatat(d, "l", &t, AT_SYMLINK_NOFOLLOW));
  CHECK(S_ISLNK(t.st_mode));
  OK(fstatat(d, "", &t, AT_EMPTY_PATH));
  CHECK(S_ISDIR(t.st_mode));
  ERR(fstatat(d, "", &t, 0), ENOENT);
  ERR(fstatat(d, "a", &t, 0x40000000), EINVAL);
  struct statx x;
  OK(statx(d, "a", 0, STATX_BASIC_STATS, &x));
  EQ(x.stx_size, 3);
  EQ(x.stx_ino, s.st_ino);
  EQ(x.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
  ERR(statx(d, "a", 0, 0x80000000u, &x), EINVAL);
}
TEST(modes_and_access) {
  t_in_folder();
  t_write_file("a", "x");
  OK(chmod("a", 04751));
  struct stat s;
  OK(stat("a", &s));
  EQ(s.st_mode & 07777, 04751);
  int fd = OK(open("a", O_RDONLY));
  OK(fchmod(fd, 0600));
  OK(fstat(fd, &s));
  EQ(s.st_mode & 07777, 0600);
  OK(access("a", R_OK | W_OK));
  ERR(access("a", X_OK), EACCES); /* root too: no x bit at all */
  ERR(access("a", 8), EINVAL);
  ERR(access("missing", F_OK), ENOENT);
  OK(fchmodat(AT_FDCWD, "a", 0711, 0));
  OK(faccessat(AT_FDCWD, "a", X_OK, AT_EACCESS));
}
TEST(owners) {
  t_in_folder();
  if (geteuid()) SKIP("needs root");
  t_write_file("a", "x");
  OK(chmod("a", 06755));
  OK(chown("a", 1234, 2345));
  struct stat s;
  OK(stat("a", &s));
  EQ(s.st_uid, 1234);
  EQ(s.st_gid, 2345);
  EQ(s.st_mode & 07777, 0755); /* set-id bits fall */
  OK(chown("a", -1, 7));
  OK(stat("a", &s));
  EQ(s.st_uid, 1234);
  EQ(s.st_gid, 7);
  OK(symlink("a", "l"));
  OK(lchown("l", 5, 6));
  OK(lstat("l", &s));
  EQ(s.st_uid, 5);
}
TEST(times) {
  t_in_folder();
  t_write_file("a", "x");
  struct timespec t[2] = {{1000000, 111}, {2000000, 222}};
  OK(utimensat(AT_FDCWD, "a", t, 0));
  struct stat s;
  OK(stat("a", &s));
  EQ(s.st_atim.tv_sec, 1000000);
  EQ(s.st_mtim.tv_sec, 2000000);
  EQ(s.st_mtim.tv_nsec, 222);
  t[0].tv_nsec = UTIME_OMIT;
  t[1].tv_nsec = UTIME_NOW;
  OK(utimensat(AT_FDCWD, "a", t, 0));
  OK(stat("a", &s));
  EQ(s.st_atim.tv_sec, 1000000);
  CHECK(s.st_mtim.tv_sec >= time(0) - 5);
  t[0].tv_nsec = 1000000000;
  ERR(utimensat(AT_FDCWD, "a", t, 0), EINVAL);
  int fd = OK(open("a", O_RDWR));
  struct timeval v[2] = {{5, 0}, {6, 7}};
  OK(futimes(fd, v));
  OK(fstat(fd, &s));
  EQ(s.st_mtim.tv_nsec, 7000);
  EQ(write(fd, "y", 1), 1);
  OK(fstat(fd, &s));
  CHECK(s.st_mtim.tv_sec > 1000);
}
TEST(dup_shares_position) {
  t_in_folder();
  t_write_file("a", "0123456789");
  int a = OK(open("a", O_RDONLY)), b = OK(dup(a)), c = OK(open("a", O_RDONLY));
  char x;
  EQ(read(a, &x, 1), 1);
  EQ(read(b, &x, 1), 1);
  EQ(x, '1');
  EQ(read(c, &x, 1), 1);
  EQ(x, '0');
  EQ(dup2(a, 100), 100);
  EQ(fcntl(100, F_GETFD), 0);
  EQ(dup3(a, 101, O_CLOEXEC), 101);
  EQ(fcntl(101, F_GETFD), FD_CLOEXEC);
  ERR(dup3(a, a, 0), EINVAL);
  EQ(dup2(a, a), a);
  ERR(dup2(99, 99), EBADF);
  EQ(fcntl(a, F_DUPFD, 200), 200);
  EQ(fcntl(a, F_DUPFD_CLOEXEC, 200), 201);
  EQ(fcntl(201, F_GETFD), FD_CLOEXEC);
  OK(close(100));
  EQ(dup(a) < 100, 1); /* lowest free number */
}
TEST(fcntl_flags) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT | O_APPEND, 0600));
  EQ(OK(fcntl(fd, F_GETFL)) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR | O_APPEND);
  OK(fcntl(fd, F_SETFL, O_NONBLOCK));
  EQ(OK(fcntl(fd, F_GETFL)) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_RDWR | O_NONBLOCK);
  int on = 1;
  OK(ioctl(fd, FIOCLEX));
  EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  OK(ioctl(fd, FIONCLEX));
  EQ(fcntl(fd, F_GETFD), 0);
  on = 0;
  OK(ioctl(fd, FIONBIO, &on));
  EQ(OK(fcntl(fd, F_GETFL)) & O_NONBLOCK, 0);
  ERR(fcntl(fd, 9999), EINVAL);
  ERR(ioctl(fd, TCGETS, &on), ENOTTY);
}
TEST(close_range_forms) {
  t_in_folder();
  int fd = OK(open("a", O_RDWR | O_CREAT, 0600));
  for (int i = 50; i < 60; i++) EQ(dup2(fd, i), i);
  OK(syscall(SYS_close_range, 52, 55, 0));
  ERR(fcntl(52, F_GETFD), EBADF);
  ERR(fcntl(55, F_GETFD), EBADF);
  EQ(fcntl(56, F_GETFD), 0);
  OK(syscall(SYS_close_range, 56, ~0u, 4 /* CLOEXEC */));
  EQ(fcntl(57, F_GETFD), FD_CLOEXEC);
  ERR(syscall(SYS_close_range, 9, 3, 0), EINVAL);
}
TEST(sendfile_and_copy) {
  t_in_folder();
  t_write_file("a", "0123456789");
  int a = OK(open("a", O_RDONLY)), b = OK(open("b", O_RDWR | O_CREAT, 0600));
  off_t at = 2;
  EQ(sendfile(b, a, &at, 5), 5);
  EQ(at, 7);
  EQ(lseek(a, 0, SEEK_CUR), 0);
  EQ(sendfile(b, a, 0, 3), 3);
  EQ(lseek(a, 0, SEEK_CUR), 3);
  STREQ(t_read_file("b"), "23456012");
  loff_t from = 0, to = 0;
  ssize_t n = copy_file_range(a, &from, b, &to, 4, 0);
  if (n < 0 && (errno == ENOSYS || errno == EXDEV || errno == EOPNOTSUPP)) return;
  EQ(n, 4);
  STREQ(t_read_file("b"), "01236012");
}
TEST(large_transfer) {
  t_in_folder();
  size_t n = 5 << 20;
  unsigned char *b = malloc(n), *c = malloc(n);
  for (size_t i = 0; i < n; i++) b[i] = i * 2654435761u >> 13;
  int fd = OK(open("a", O_RDWR | O_CREAT, 0600));
  EQ(write(fd, b, n), n);
  EQ(pread(fd, c, n, 0), n);
  CHECK(!memcmp(b, c, n));
  OK(fsync(fd));
  OK(fdatasync(fd));
  EQ(pread(fd, c, 7, n - 3), 3);
}
TEST(fs_facts) {
  t_in_folder();
  struct statfs f;
  OK(statfs(".", &f));
  CHECK(f.f_bsize > 0 && f.f_namelen == 255);
  OK(statfs("/proc", &f));
  EQ(f.f_type, 0x9fa0);
  int fd = OK(open(".", O_RDONLY));
  OK(fstatfs(fd, &f));
  ERR(statfs("missing", &f), ENOENT);
}
TEST(names_too_long) {
  t_in_folder();
  char n[300];
  memset(n, 'a', 299);
  n[299] = 0;
  ERR(open(n, O_RDONLY), ENAMETOOLONG);
  n[255] = 0;
  OK(close(OK(open(n, O_CREAT | O_WRONLY, 0600))));
  char *p = malloc(5000);
  for (int i = 0; i < 4998; i += 2) memcpy(p + i, "./", 2);
  p[4998] = 0;
  ERR(open(p, O_RDONLY), ENAMETOOLONG);
}
TEST(access_by_others) {
  t_in_folder();
  if (geteuid()) SKIP("needs root");
  OK(chmod(".", 0755));
  t_write_file("a", "x");
  OK(chmod("a", 0600));
  OK(mkdir("d", 0700));
  t_write_file("d/f", "x");
  pid_t p = CHILD({
    OK(setresgid(1000, 1000, 1000));
    OK(setresuid(1000, 1000, 1000));
    ERR(open("a", O_RDONLY), EACCES);
    ERR(open("d/f", O_RDONLY), EACCES);
    ERR(open("new", O_CREAT | O_WRONLY, 0600), EACCES);
    ERR(unlink("a"), EACCES);
    ERR(chmod("a", 0666), EPERM);
    ERR(chown("a", 1000, 1000), EPERM);
    ERR(access("a", R_OK), EACCES);
  });
  JOIN(p);
}
TEST(sticky_and_setgid_folders) {
  t_in_folder();
  if (geteuid()) SKIP("needs root");
  OK(chmod(".", 0755));
  OK(mkdir("s", 01777));
  OK(chmod("s", 01777));
  t_write_file("s/root", "x");
  OK(mkdir("g", 0777));
  OK(chown("g", 0, 55));
  OK(chmod("g", 02777));
  OK(mkdir("g/sub", 0755));
  struct stat t;
  OK(stat("g/sub", &t));
  EQ(t.st_gid, 55);
  EQ(t.st_mode & 02000, 02000);
  pid_t p = CHILD({
    OK(setresgid(1000, 1000, 1000));
    OK(setresuid(1000, 1000, 1000));
    ERR(unlink("s/root"), EPERM);
    t_write_file("s/own", "x");
    OK(unlink("s/own"));
  });
  JOIN(p);
}
